/** The loop of sendfile(2) calls: how much each asks for, EINTR, EAGAIN, and the change to the copy. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as fs from "node:fs";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import { replaceLibc } from "../../ffi/load.ts";
import { poller } from "../../ffi/poller.ts";
import { ConnectionClosedError, sendfile, sendfileStats } from "../../mod.ts";
import { assertBytes, bytes, DATA, descriptors, testFile, until } from "../support/data.ts";
import { faulty } from "../support/faults.ts";
import { test } from "../support/harness.ts";
import { onlyBy } from "../support/helpers.ts";
import { raw } from "../support/pairs.ts";
import { descriptor } from "../support/pairs_node.ts";

const MIB = 1024 * 1024;

/** asm-generic/fcntl.h */
const O_CLOEXEC = 0o2000000;

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
