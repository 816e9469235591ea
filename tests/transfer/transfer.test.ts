/** What can happen to a transfer on its way. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as fs from "node:fs";
import type * as net from "node:net";
import {
  ConnectionClosedError,
  createSendfileCallable,
  sendfile,
  SendfileNotAvailableError,
  sendfileStats,
  sendfileSync,
} from "../../mod.ts";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import { poller } from "../../ffi/poller.ts";
import { assertBytes, bytes, concat, DATA, descriptors, testFile, until } from "../support/data.ts";
import { faulty } from "../support/faults.ts";
import { replaceLibc } from "../../ffi/load.ts";
import { test } from "../support/harness.ts";
import { onlyBy } from "../support/helpers.ts";
import { bodyOf, descriptor, kinds, nodeAccepted, raw } from "../support/pairs.ts";

const MIB = 1024 * 1024;

/** asm-generic/fcntl.h */
const O_CLOEXEC = 0o2000000;

const ways = [true, false];
const named = (zeroCopy: boolean) => zeroCopy ? "sendfile" : "copy";

/**
 * A test of one way: it has moved bytes, and the other none. `mixed`: sockets that are copied in any case take part.
 */
function way(zeroCopy: boolean, name: string, body: () => Promise<void>, { mixed = false } = {}): void {
  test(`${name} [${named(zeroCopy)}]`, async () => {
    const before = sendfileStats();
    await body();
    const after = sendfileStats();
    const [used, other] = zeroCopy ? ["sendfile", "copy"] as const : ["copy", "sendfile"] as const;
    assert(after[used].transfers > before[used].transfers, `nothing went by ${used}`);
    if (!mixed) assertEquals(after[other].bytes, before[other].bytes, `bytes went by ${other}`);
  });
}

/** A pair that comes and goes. */
async function warmUp(path: string, zeroCopy: boolean): Promise<void> {
  const pair = await raw.open();
  await sendfile(pair.socket, path, { count: 10, zeroCopy });
  pair.close();
}

for (const zeroCopy of ways) {
  way(zeroCopy, "a slow reader gets every byte", async () => {
    using file = testFile(DATA);
    for (const kind of [raw, nodeAccepted]) {
      const pair = await kind.open({ small: true });
      const sending = sendfile(pair.socket, file.file, { zeroCopy });
      for (let length = 1; length < DATA.length; length += 100_000) {
        await pair.peer.atLeast(length);
        pair.peer.socket.pause();
        await new Promise((resolve) => setTimeout(resolve, 2)); // what makes it slow
      }
      const all = pair.peer.all();
      assertEquals(await sending, DATA.length);
      pair.end();
      assertBytes(await all, DATA);
      pair.close();
    }
  });

  way(zeroCopy, "a trailer follows a file that ends before its count", async () => {
    using file = testFile(DATA.subarray(0, 500));
    const [header, trailer] = [bytes(100, 2), bytes(300, 3)];
    for (const kind of [raw, nodeAccepted]) {
      const pair = await kind.open();
      const all = pair.peer.all();
      assertEquals(await sendfile(pair.socket, file.path, { header, trailer, count: 1000, zeroCopy }), 500);
      pair.end();
      assertBytes(await all, concat(header, DATA.subarray(0, 500), trailer));
      pair.close();
    }
  });

  way(zeroCopy, "a slow but steady reader is not timed out", async () => {
    using file = testFile(DATA);
    const timeout = 1500;
    const pair = await raw.open({ small: true });
    const sending = sendfile(pair.socket, file.path, { zeroCopy, timeout });
    const began = performance.now();
    for (let length = 1; length < DATA.length; length += 120_000) {
      await Promise.race([pair.peer.atLeast(length), sending]);
      pair.peer.socket.pause();
      await new Promise((resolve) => setTimeout(resolve, timeout / 6)); // what makes it slow
    }
    assert(performance.now() - began > timeout, "it was not slow enough");
    const all = pair.peer.all();
    assertEquals(await sending, DATA.length);
    pair.end();
    assertBytes(await all, DATA);
    pair.close();
  });

  way(zeroCopy, "100 sockets at once, each with its own bytes, and no descriptor left", async () => {
    const content = bytes(400_000, 31);
    using file = testFile(content);
    await warmUp(file.path, zeroCopy); // what the runtime opens once for all
    const atFirst = descriptors().length;
    await warmUp(file.path, zeroCopy);
    await until("the first pair is gone", () => descriptors().length <= atFirst);
    const before = sendfileStats();
    const open = descriptors().length;
    const pairs = await Promise.all(Array.from({ length: 100 }, () => raw.open({ small: true })));
    await Promise.all(pairs.map(async (pair, i) => {
      const all = pair.peer.all();
      const header = new TextEncoder().encode(`this is ${i}`);
      assertEquals(
        await sendfile(pair.socket, file.path, { offset: i * 17, header, zeroCopy }),
        content.length - i * 17,
      );
      pair.end();
      assertBytes(await all, concat(header, content.subarray(i * 17)));
      pair.close();
    }));
    const after = sendfileStats();
    assertEquals(after[named(zeroCopy)].transfers - before[named(zeroCopy)].transfers, 100);
    if (zeroCopy) assert(after.waits > before.waits, "no EAGAIN happened");
    await until("the descriptors are closed", () => descriptors().length <= open);
  });

  way(
    zeroCopy,
    "an abort in the middle ends the stream, so that the peer cannot take it for whole",
    async () => {
      const content = bytes(16 * 1024 * 1024);
      using file = testFile(content);
      for (const kind of kinds) {
        const pair = await kind.open({ small: kind.native });
        const stop = new AbortController();
        const sending = sendfile(pair.socket, file.file, { zeroCopy, signal: stop.signal });
        await pair.peer.atLeast(1000);
        pair.peer.socket.pause();
        stop.abort(new Error("enough"));
        await assertRejects(() => sending, Error, "enough");
        const received = await pair.peer.all(); // ends although nobody calls end()
        const part = bodyOf(kind, received);
        assert(part.length < content.length, kind.name);
        assertBytes(part, content.subarray(0, part.length));
        pair.close();
      }
    },
    { mixed: true },
  );

  test(`an abort before the start sends nothing and leaves the socket alone [${named(zeroCopy)}]`, async () => {
    using file = testFile(DATA);
    for (const kind of kinds.filter(({ name }) => name !== "node:http")) {
      const pair = await kind.open();
      const reason = new Error("never mind");
      const options = { zeroCopy, signal: AbortSignal.abort(reason) };
      assertEquals(await assertRejects(() => sendfile(pair.socket, file.file, options)), reason);
      await pair.write(new TextEncoder().encode("still here"));
      pair.end();
      assertEquals(new TextDecoder().decode(await pair.peer.all()), "still here");
      pair.close();
    }
  });

  way(zeroCopy, "a rate limit spreads the bytes, and changes none", async () => {
    using file = testFile(DATA);
    const pair = await raw.open();
    const all = pair.peer.all();
    const steps: number[] = [];
    const began = performance.now();
    const onProgress = (sent: number) => void steps.push(sent);
    const options = { rateLimit: 1_000_000, count: 400_000, zeroCopy, onProgress };
    assertEquals(await sendfile(pair.socket, file.file, options), 400_000);
    // Not an assertion on speed: pieces of a tenth of a second, of which the last starts when three have passed.
    assert(performance.now() - began >= 290, "it was too fast");
    assertEquals(steps, [100_000, 200_000, 300_000, 400_000]);
    pair.end();
    assertBytes(await all, DATA.subarray(0, 400_000));
    pair.close();
  });

  way(zeroCopy, "an exception in a callback ends the transfer and frees everything", async () => {
    using file = testFile(DATA);
    const pair = await raw.open({ small: true });
    const open = descriptors().length;
    const wrong = () => {
      throw new Error("my mistake");
    };
    await assertRejects(
      () => sendfile(pair.socket, file.path, { zeroCopy, onStart: wrong }),
      Error,
      "my mistake",
    );
    await assertRejects(
      () => sendfile(pair.socket, file.path, { zeroCopy, onProgress: wrong }),
      Error,
      "my mistake",
    );
    await until("the descriptors are closed", () => descriptors().length <= open);
    pair.close();
  });

  way(zeroCopy, "a peer that resets while the transfer waits is reported", async () => {
    using file = testFile(bytes(16 * 1024 * 1024));
    for (const kind of [raw, nodeAccepted]) {
      const pair = await kind.open({ small: true });
      const sending = sendfile(pair.socket, file.file, { zeroCopy });
      await pair.peer.atLeast(1);
      pair.peer.socket.pause();
      pair.peer.socket.resetAndDestroy();
      await assertRejects(() => sending, ConnectionClosedError);
      pair.close();
    }
  });
}

test("no call asks for more than 4 MiB: one fast peer must not hold the thread", async () => {
  const content = bytes(10 * MIB + 1);
  using file = testFile(content);
  const pair = await raw.open();
  const counts: number[] = [];
  const libc = faulty({});
  const { sendfile: real } = libc;
  libc.sendfile = (out, file, offset, count) => {
    counts.push(count);
    return real(out, file, offset, count);
  };
  try {
    replaceLibc(libc);
    const all = pair.peer.all();
    assertEquals(await sendfile(pair.socket, file.file), content.length);
    pair.end();
    assertBytes(await all, content);
    assert(counts.length > 0 && counts.every((count) => count <= 4 * MIB), JSON.stringify(counts));
  } finally {
    replaceLibc(undefined);
    pair.close();
  }
});

test("what a transfer opens for its wait is closed in a child process", async () => {
  using file = testFile(bytes(16 * MIB));
  const pair = await raw.open({ small: true });
  const fd = fs.openSync(file.path, "r");
  const before = new Set(descriptors());
  const stop = new AbortController();
  const { waits } = sendfileStats();
  const sending = sendfile(pair.socket, fd, { signal: stop.signal });
  try {
    await until("the transfer waits", () => sendfileStats().waits > waits);
    const opened = descriptors().filter((text) => !before.has(text));
    for (const part of ["socket:", "eventpoll", "eventfd", file.path]) {
      assert(opened.some((text) => text.includes(part)), `no ${part} in ${opened}`);
    }
    const inherited = opened.filter((text) => !closesOnExec(Number(text.split(" ")[0])));
    assertEquals(inherited, []);
  } finally {
    stop.abort();
    await assertRejects(() => sending);
    fs.closeSync(fd);
    pair.close();
  }
});

/** By /proc: what a runtime's own spawn closes beside it depends on the runtime. */
function closesOnExec(fd: number): boolean {
  const info = fs.readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  return (parseInt(/^flags:\s*(\d+)/m.exec(info)![1], 8) & O_CLOEXEC) !== 0;
}

test("EINTR is tried again, and EAGAIN with nothing sent waits", async () => {
  using file = testFile(DATA);
  const pair = await raw.open();
  try {
    const results: (number | string)[] = [];
    replaceLibc(faulty({ 1: "EINTR", 2: "EAGAIN", 3: 1000, 4: "EINTR", 5: "EINTR", 6: 1 }, results));
    const { waits } = sendfileStats();
    const all = pair.peer.all();
    assertEquals(await onlyBy("sendfile", () => sendfile(pair.socket, file.file)), DATA.length);
    assertEquals(results.slice(0, 6), ["EINTR", "EAGAIN", 1000, "EINTR", "EINTR", 1]);
    assert(sendfileStats().waits > waits);
    pair.end();
    assertBytes(await all, DATA);
  } finally {
    replaceLibc(undefined);
    pair.close();
  }
});

test("sendfileSync refuses a socket that has something else to send before", async () => {
  using file = testFile(DATA);
  const limit = { timeout: 1000 }; // of a call that would go through: this thread is the reader's too
  {
    const pair = await raw.open({ small: true });
    const sending = sendfile(pair.socket, file.path);
    const error = assertThrows(() => sendfileSync(pair.socket, file.path, limit), SendfileNotAvailableError);
    assertEquals([error.reason, error.sent], ["another transfer of this socket is under way", 0]);
    const all = pair.peer.all();
    assertEquals(await sending, DATA.length);
    pair.end();
    assertBytes(await all, DATA);
    pair.close();
  }
  const pair = await nodeAccepted.open({ small: true });
  const socket = pair.socket as net.Socket;
  const before = bytes(4_000_000, 5);
  socket.write(before); // the peer does not read yet
  const error = assertThrows(() => sendfileSync(socket, file.path, limit), SendfileNotAvailableError);
  assertEquals([error.reason, error.sent], ["the runtime still holds earlier bytes", 0]);
  socket.end();
  assertBytes(await pair.peer.all(), before);
  pair.close();
});

test("EAGAIN is waited for, and not tried again at once", async () => {
  using file = testFile(DATA.subarray(0, 1000));
  const pair = await raw.open();
  const { waits, sendfile: { calls } } = sendfileStats();
  try {
    replaceLibc(faulty({ 1: "EAGAIN" }));
    assertEquals(await sendfile(pair.socket, file.path), 1000);
    const after = sendfileStats();
    assertEquals([after.waits - waits, after.sendfile.calls - calls], [1, 2]);
    assertBytes(await pair.peer.atLeast(1000), DATA.subarray(0, 1000));
  } finally {
    replaceLibc(undefined);
    pair.close();
  }
});

test("progress is told in order, up to the whole", async () => {
  using file = testFile(DATA);
  const pair = await raw.open({ small: true });
  const all = pair.peer.all();
  const steps: number[] = [];
  const options = { onProgress: (sent: number) => void steps.push(sent) };
  assertEquals(await onlyBy("sendfile", () => sendfile(pair.socket, file.file, options)), DATA.length);
  assert(steps.length > 1);
  assertEquals(steps, [...steps].sort((a, b) => a - b));
  assertEquals(steps.at(-1), DATA.length);
  pair.end();
  assertBytes(await all, DATA);
  pair.close();
});

test("createSendfileCallable sends to its socket", async () => {
  using file = testFile(DATA);
  const pair = await raw.open();
  const send = createSendfileCallable(pair.socket);
  const all = pair.peer.all();
  assertEquals([await send(file.file, 1, 2), await send(file.path, DATA.length - 4)], [2, 4]);
  pair.end();
  assertBytes(await all, concat(DATA.subarray(1, 3), DATA.subarray(-4)));
  pair.close();
});

test("a transfer that never waits registers nothing", async () => {
  using file = testFile(DATA.subarray(0, 4096));
  const pair = await raw.open();
  const { waits } = sendfileStats();
  assertEquals(await onlyBy("sendfile", () => sendfile(pair.socket, file.path)), 4096);
  assertEquals(sendfileStats().waits, waits);
  assertEquals(poller(loadLibc() as Libc).size, 0);
  assertBytes(await pair.peer.atLeast(4096), DATA.subarray(0, 4096));
  pair.close();
});

test("a socket that is closed while its file is copied instead: nothing is done to who has its number now", async () => {
  using file = testFile(DATA);
  const pair = await raw.open({ small: true });
  const libc = faulty({ 1: "EINVAL" });
  const calls: string[] = [];
  const { cork, reset } = { cork: libc.cork.bind(libc), reset: libc.reset.bind(libc) };
  libc.cork = (fd, on) => {
    calls.push(`cork ${on}`);
    return cork(fd, on);
  };
  libc.reset = (fd) => {
    calls.push("reset");
    return reset(fd);
  };
  const previous = loadLibc();
  replaceLibc(libc);
  try {
    const sending = sendfile(pair.socket, file.path, { header: bytes(100, 2) });
    await pair.peer.atLeast(1);
    calls.length = 0;
    pair.close();
    await assertRejects(() => sending, ConnectionClosedError);
    assertEquals(calls, []);
  } finally {
    replaceLibc(previous);
    pair.close();
  }
});

test("a transfer that is copied from the middle on leaves no timer behind", async () => {
  using file = testFile(bytes(2_000_000, 4));
  const pair = await descriptor.open({ small: true });
  const previous = loadLibc();
  replaceLibc(faulty({ 2: "EINVAL" }));
  const timers = new Set<unknown>();
  const { setInterval, clearInterval } = globalThis;
  globalThis.setInterval = ((...args: Parameters<typeof setInterval>) => {
    const timer = setInterval(...args);
    timers.add(timer);
    return timer;
  }) as typeof setInterval;
  globalThis.clearInterval = (timer) => {
    timers.delete(timer);
    clearInterval(timer);
  };
  try {
    const all = pair.peer.all();
    const vias: string[] = [];
    await sendfile(pair.socket, file.path, { onStart: ({ via }) => vias.push(via) });
    assertEquals(vias, ["sendfile", "copy"]);
    assertEquals(timers.size, 0);
    pair.end();
    assertBytes(await all, bytes(2_000_000, 4));
  } finally {
    Object.assign(globalThis, { setInterval, clearInterval });
    replaceLibc(previous);
    pair.close();
  }
});
