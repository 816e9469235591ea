/** writable() and readable(): Python's add_writer and add_reader. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { join } from "@std/path";
import { SendfileError, SendfileNotAvailableError } from "../../mod.ts";
import { readable, writable } from "../../ffi/mod.ts";
import type { Libc } from "../../ffi/libc.ts";
import type { WatchEvents } from "../../ffi/library.ts";
import { libc as loadLibc, replaceLibc } from "../../ffi/load.ts";
import { Poller, poller } from "../../ffi/poller.ts";
import { descriptors, folder, testFile, until } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { fill as fillSocket, pipe, socketPair } from "../support/helpers.ts";
import { descriptor } from "../support/pairs_node.ts";

const libc = () => loadLibc() as Libc;
/** Milliseconds in which what has happened is reported, on the busiest machine. */
const SOON = 5000;

const F_DUPFD = 0;

const waiting = () => poller(libc()).size;

/** Fills the unix socket until it takes no more. */
const fill = (fd: number) => void fillSocket(libc(), fd, 0);

function drain(fd: number): void {
  const { call, wide } = libc().library;
  const sink = new Uint8Array(65536);
  while (call.read(fd, sink, wide(sink.length)) > 0);
}

test("writable() resolves at once on a socket with room", async () => {
  using pair = socketPair();
  await writable(pair.here);
});

test("writable() resolves when a full socket has room again, and not before", async () => {
  using pair = socketPair();
  fill(pair.here);
  let ready = false;
  const waits = writable(pair.here).then(() => ready = true);
  await writable(pair.there); // a round through the same poller
  assertEquals(ready, false);
  drain(pair.there);
  await waits;
  assertEquals(libc().send(pair.here, new Uint8Array(1), false), 1);
});

test("readable() resolves when the peer writes, and when it ends", async () => {
  using pair = socketPair();
  let ready = false;
  const written = readable(pair.here).then(() => ready = true);
  await writable(pair.here);
  assertEquals(ready, false);
  libc().send(pair.there, new Uint8Array(1), false);
  await written;
  drain(pair.here);
  const ended = readable(pair.here);
  libc().shutdown(pair.there);
  await ended;
});

test("both directions of one descriptor, and two waiters of one direction, are told", async () => {
  using pair = socketPair();
  fill(pair.here);
  const all = [writable(pair.here), writable(pair.here), readable(pair.here), readable(pair.here)];
  assertEquals(waiting(), 1);
  libc().send(pair.there, new Uint8Array(1), false);
  await Promise.all(all.slice(2));
  assertEquals(waiting(), 1);
  drain(pair.there);
  await Promise.all(all);
  assertEquals(waiting(), 0);
});

test("a wait that is aborted alone leaves neither a waiter nor a descriptor", async () => {
  using pair = socketPair();
  fill(pair.here);
  const before = descriptors().length;
  for (let i = 0; i < 3; i++) {
    const stop = new AbortController();
    const aborted = writable(pair.here, { signal: stop.signal });
    assertEquals(waiting(), 1);
    stop.abort(new Error("enough"));
    await assertRejects(() => aborted, Error, "enough");
    assertEquals(waiting(), 0);
  }
  await until("epoll and eventfd are closed", () => descriptors().length <= before);
});

test("a wait that is aborted rejects with the reason and is taken back at once; the other goes on", async () => {
  using pair = socketPair();
  fill(pair.here);
  const stop = new AbortController();
  const aborted = writable(pair.here, { signal: stop.signal });
  const other = writable(pair.here);
  stop.abort(new Error("enough"));
  await assertRejects(() => aborted, Error, "enough");
  assertEquals(waiting(), 1);
  drain(pair.there);
  await other;
  assertEquals(waiting(), 0);
  await assertRejects(
    () => writable(pair.here, { signal: AbortSignal.abort(new Error("before")) }),
    Error,
    "before",
  );
});

test("a half-close of the peer wakes the waiters for reading, but not those for writing", async () => {
  using pair = socketPair();
  fill(pair.here);
  const [write, read] = [writable(pair.here), readable(pair.here)];
  let written = false;
  write.then(() => written = true);
  libc().close(libc().dup(pair.there)); // a duplicate more or less is no end
  await writable(pair.there);
  assertEquals(waiting(), 1);
  libc().shutdown(pair.there);
  await read;
  assertEquals([written, waiting()], [false, 1]);
  drain(pair.there);
  await write;
});

// poll.h, where epoll's events have the same numbers.
const POLLIN = 0x1;
const POLLOUT = 0x4;
const POLLERR = 0x8;
const POLLHUP = 0x10;

/** What the kernel has to say of `fd` to who asks for both directions. */
function eventsOf(fd: number): number {
  const { call, wide } = libc().library;
  const asked = new Int32Array([fd, POLLIN | POLLOUT]);
  call.poll(asked, wide(1), 0);
  return asked[1] >>> 16;
}

test("a reset of a full connection wakes both directions", async () => {
  const pair = await descriptor.open({ small: true });
  // The runtime closes its own descriptor at the reset, and who waits keeps one open.
  const fd = libc().dup(pair.socket as number);
  try {
    fillSocket(libc(), fd);
    const signal = AbortSignal.timeout(SOON);
    const waits = [writable(fd, { signal }), readable(fd, { signal })];
    assertEquals([eventsOf(fd), waiting()], [0, 1]);
    pair.peer.socket.resetAndDestroy();
    await Promise.all(waits);
    assertEquals(eventsOf(fd) & POLLHUP, POLLHUP); // the error itself may have gone to the runtime's own read
    assertEquals(waiting(), 0);
  } finally {
    libc().close(fd);
    pair.close();
  }
});

test("a pipe's end learns of the other's: the kernel reports a hang-up or an error alone", async () => {
  {
    using ends = pipe();
    const hangup = readable(ends.read, { signal: AbortSignal.timeout(SOON) });
    await writable(ends.write); // a round through the same poller: nothing has hung up yet
    assertEquals(waiting(), 1);
    ends.closeWrite();
    assertEquals(eventsOf(ends.read), POLLHUP); // and no POLLIN
    await hangup;
  }
  {
    using ends = pipe();
    const { call, wide } = libc().library;
    const chunk = new Uint8Array(4096);
    while (call.write(ends.write, chunk, wide(chunk.length)) > 0);
    const error = writable(ends.write, { signal: AbortSignal.timeout(SOON) });
    await readable(ends.read);
    assertEquals(waiting(), 1);
    ends.closeRead();
    assertEquals(eventsOf(ends.write), POLLERR); // and no POLLOUT
    await error;
  }
});

test("an invalid number, a closed descriptor and a regular file are refused", async () => {
  using file = testFile(new Uint8Array(1));
  await assertRejects(() => writable(1.5), TypeError);
  await assertRejects(() => readable("1" as unknown as number), TypeError);
  await assertRejects(() => writable(-1), RangeError);
  await assertRejects(() => writable(2 ** 31), RangeError);
  const fd = fs.openSync(file.path, "r");
  assertEquals((await assertRejects(() => writable(fd), SendfileError)).code, "EPERM");
  fs.closeSync(fd);
  assertEquals((await assertRejects(() => writable(999_999), SendfileError)).code, "EBADF");
  assertEquals(waiting(), 0);
});

test("without FFI the waiters say so", async () => {
  replaceLibc("not here, the test says");
  try {
    await assertRejects(() => writable(1), SendfileNotAvailableError, "not here");
  } finally {
    replaceLibc(undefined);
  }
});

test("50 descriptors wait at once, again and again, and nothing is left over", async () => {
  const pairs = Array.from({ length: 50 }, () => socketPair());
  let during = 0;
  for (let round = 0; round < 20; round++) {
    for (const pair of pairs) fill(pair.here);
    const waits = pairs.map((pair) => writable(pair.here));
    assertEquals(waiting(), 50);
    during = descriptors().length;
    for (const pair of pairs) drain(pair.there);
    await Promise.all(waits);
    assertEquals(waiting(), 0);
  }
  await until("epoll and eventfd are closed", () => descriptors().length <= during - 2);
  assertEquals(waiting(), 0);
  for (const pair of pairs) pair[Symbol.dispose]();
});

/** Runs `body` where the library's `watch` is another; the poller keeps nothing that was open. */
async function withWatch(
  wrap: (watch: Libc["library"]["watch"]) => Libc["library"]["watch"],
  body: () => Promise<void>,
): Promise<void> {
  const { library } = libc();
  const original = library.watch;
  library.watch = wrap(original.bind(library));
  try {
    await body();
  } finally {
    library.watch = original;
  }
}

test("the polling thread fails: all waiters reject with the cause, and the next wait starts a new poller", async () => {
  const own = new Poller(libc());
  using pair = socketPair();
  using other = socketPair();
  const before = descriptors().length;
  fill(pair.here);
  fill(other.here);
  let events: WatchEvents | undefined;
  await withWatch((watch) => (call, told) => watch(call, events = told), async () => {
    const all = [
      own.wait(pair.here, "writable"),
      own.wait(pair.here, "readable"),
      own.wait(other.here, "writable"),
    ];
    const failed = Promise.all(all.map((wait) => assertRejects(() => wait, SendfileError)));
    events!.onFailure(new Error("the test says so"));
    for (const error of await failed) {
      assertStringIncludes(error.message, "the test says so");
      assertEquals([error.code, error.sent], ["EIO", 0]);
    }
    assertEquals(own.size, 0);
    let ready = false;
    const again = own.wait(pair.here, "writable").then(() => ready = true);
    await own.wait(pair.there, "writable");
    assertEquals(ready, false);
    drain(pair.there);
    await again;
  });
  await until("the epolls and eventfds of both are closed", () => descriptors().length <= before);
});

test("the watch cannot be started: the waiter rejects, and nothing stays open", async () => {
  const own = new Poller(libc());
  using pair = socketPair();
  const before = descriptors().length;
  await withWatch(() => () => {
    throw new Error("no thread");
  }, async () => {
    const error = await assertRejects(() => own.wait(pair.here, "writable"), SendfileError);
    assertStringIncludes(error.message, "no thread");
  });
  // Fewer, if the poller of an earlier test has just closed what it kept for a while.
  assert(
    own.size === 0 && descriptors().length <= before,
    `${descriptors().length} descriptors, ${before} before`,
  );
  await own.wait(pair.here, "writable");
});

test("the blocking call fails: valid descriptors are still waited for, invalid ones reject", async () => {
  const own = new Poller(libc());
  using pair = socketPair();
  fill(pair.here);
  // A high number: the lowest that is free may go to a thread that starts meanwhile, and would then be open again.
  const dup = libc().system.fcntl(libc().library, pair.here, F_DUPFD, 900);
  assertEquals(dup, 900);
  let events: WatchEvents | undefined;
  await withWatch((watch) => (call, told) => watch(call, events = told), async () => {
    const kept = own.wait(pair.here, "writable");
    const lost = own.wait(dup, "writable");
    libc().close(dup);
    events!.onReturn(-1, new Uint8Array(1024)); // as for a signal
    const error = await assertRejects(() => lost, SendfileError);
    assertEquals(error.code, "EBADF");
    assertEquals(own.size, 1);
    drain(pair.there);
    await kept;
  });
});

/** Runs `body` where workers start from `text`. */
async function withWorker(text: string, body: () => Promise<void>): Promise<void> {
  const original = URL.createObjectURL;
  URL.createObjectURL = () => original(new Blob([text], { type: "text/javascript" }));
  try {
    await body();
  } finally {
    URL.createObjectURL = original;
  }
}

if (isBun) {
  for (
    const [name, text, cause] of [
      ["throws at its start", "cov_1f().s[0]++; onmessage = () => {};", "cov_1f"],
      ["is no JavaScript", "}{", "SyntaxError"],
      ["throws at its first message", "onmessage = () => { cov_2g(); };", "cov_2g"],
      ["exits", "onmessage = () => { process.exit(0); };", "its worker was ended"],
      ["ends later", "onmessage = () => { setTimeout(() => process.exit(1), 50); };", "its worker was ended"],
    ]
  ) {
    test(`a worker that ${name}: its waiters reject, and the next wait has another`, async () => {
      const own = new Poller(libc());
      using pair = socketPair();
      const before = descriptors().length;
      fill(pair.here);
      await withWorker(text, async () => {
        const error = await assertRejects(() => own.wait(pair.here, "writable"), SendfileError);
        assertStringIncludes(error.message, cause);
      });
      drain(pair.there);
      await own.wait(pair.here, "writable");
      await until("all is closed", () => descriptors().length <= before);
    });
  }

  test("bun test --coverage: waits end", () => {
    const dir = folder();
    fs.writeFileSync(
      join(dir, "waits.test.ts"),
      `import { expect, test } from "bun:test";
import { connect, createServer } from "node:net";
import { writable } from ${JSON.stringify(new URL("../../ffi/mod.ts", import.meta.url).pathname)};
test("waits", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const socket = connect(server.address().port, "127.0.0.1");
  await new Promise((resolve) => socket.once("connect", resolve));
  await writable(socket._handle.fd);
  socket.destroy();
  server.close();
});
`,
    );
    const { status, stderr } = spawnSync(process.execPath, [
      "test",
      "--coverage",
      "./waits.test.ts",
    ], {
      cwd: dir,
      encoding: "utf8",
      timeout: 30_000,
    });
    fs.rmSync(dir, { recursive: true });
    assertEquals(status, 0, stderr);
    assertStringIncludes(stderr, "bun.ts"); // it was covered
  });
}
