/** A socket that is sent to without a duplicate: its descriptor's number may be another connection's afterwards. */
import { assertEquals, assertRejects } from "@std/assert";
import { ConnectionClosedError, socketClosed } from "../../errors.ts";
import { poller } from "../../ffi/poller.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import { sendParts } from "../../sendfile.ts";
import type { SendfileSocket } from "../../sockets/mod.ts";
import { internalDescriptor } from "../../sockets/deno_conn.ts";
import { assertBytes, bytes, concat, DATA, descriptors, testFile, until } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import type { Pair } from "../support/pair.ts";
import { raw } from "../support/pairs.ts";
import { noProc } from "../support/site.ts";

const libc = loadLibc();
const noLibc = typeof libc === "string" ? libc : undefined;

function descriptorOf(socket: SendfileSocket): number | undefined {
  return isBun ? (socket as { fd: number }).fd : internalDescriptor(socket as Deno.Conn);
}

/** A transfer that waits for room. */
async function stalled(
  pair: Pair,
  path: string,
  signal: AbortSignal,
): Promise<{ sending: Promise<number>; moved(): number }> {
  const waiting = typeof libc === "string" ? 0 : poller(libc).size;
  let moved = 0;
  const observer = { started() {}, moved: (count: number) => void (moved += count), holdsSocket: true };
  const sending = Promise.resolve(sendParts(pair.socket, path, [{ signal }], observer));
  sending.catch(() => {});
  if (typeof libc !== "string") await until("the wait for room", () => poller(libc).size > waiting);
  return { sending, moved: () => moved };
}

/** One transfer that had to wait: what it opens for all of them is open from here on. */
async function warmUp(path: string): Promise<void> {
  const pair = await raw.open({ small: true });
  const { sending } = await stalled(pair, path, new AbortController().signal);
  const all = pair.peer.all();
  await sending;
  pair.end();
  await all;
  pair.close();
}

function opened(what: string): number {
  return descriptors().filter((text) => text.includes(what)).length;
}

/** Pairs until one has the descriptor's number. */
async function reuse(fd: number): Promise<Pair[]> {
  const pairs: Pair[] = [];
  for (let i = 0; i < 20; i++) {
    pairs.push(await raw.open({ small: true }));
    if (descriptorOf(pairs.at(-1)!.socket) === fd) return pairs;
  }
  throw new Error(`nobody got descriptor ${fd}`);
}

for (const how of ["this side closes it, the transfer aborted before", "this side closes it unannounced"]) {
  test(`a held socket's number gets no byte once it is another connection's: ${how}`, async () => {
    using file = testFile(DATA);
    const abort = new AbortController();
    await warmUp(file.path);
    const sockets = opened("socket:");
    const pair = await raw.open({ small: true });
    const fd = descriptorOf(pair.socket)!;
    const { sending, moved } = await stalled(pair, file.path, abort.signal);
    const before = moved();
    if (!how.includes("unannounced")) abort.abort(socketClosed());
    pair.close();
    await until("the pair to be closed", () => opened("socket:") <= sockets);
    const others = await reuse(fd);
    try {
      const other = others.at(-1)!;
      const content = bytes(100_000, 7);
      // It waits for room by the same number.
      const theirs = Promise.resolve(sendParts(other.socket, file.path, [{ header: content }]));
      await assertRejects(() => sending, ConnectionClosedError);
      assertEquals(moved(), before);
      const all = other.peer.all();
      assertEquals(await theirs, DATA.length);
      other.end();
      assertBytes(await all, concat(content, DATA));
    } finally {
      for (const other of others) other.close();
    }
  }, { skip: noLibc ?? noProc });
}

test("a held socket and a file of this package's are sent without a duplicate", async () => {
  using file = testFile(DATA);
  const pair = await raw.open({ small: true });
  const before = [opened("socket:"), opened(file.path)];
  const { sending } = await stalled(pair, file.path, new AbortController().signal);
  assertEquals([opened("socket:"), opened(file.path)], [before[0], before[1] + 1]);
  const all = pair.peer.all();
  assertEquals(await sending, DATA.length);
  assertEquals([opened("socket:"), opened(file.path)], before);
  pair.end();
  assertBytes(await all, DATA);
  pair.close();
}, { skip: noLibc ?? noProc });

test(
  "a held socket that is closed between two parts gets no second part, nor does who has its number",
  async () => {
    const { library, system } = libc as Exclude<typeof libc, string>;
    using file = testFile(DATA);
    const pair = await raw.open({ small: true });
    const other = await raw.open();
    const own = descriptorOf(pair.socket)!;
    const ending = new AbortController();
    let moved = 0;
    let taken = -1;
    const observer = {
      started() {},
      moved(count: number) {
        moved += count;
        if (moved < DATA.length) return;
        queueMicrotask(() => { // before the second part begins
          ending.abort(socketClosed());
          (pair.socket as Deno.Conn).close();
          taken = system.fcntl(library, descriptorOf(other.socket)!, system.F_DUPFD_CLOEXEC, own);
        });
      },
      holdsSocket: true,
    };
    const { signal } = ending;
    const parts = [{ count: DATA.length, signal }, { count: 1000, signal }];
    const sending = Promise.resolve(sendParts(pair.socket, file.path, parts, observer));
    const received = pair.peer.all();
    await assertRejects(() => sending, ConnectionClosedError);
    assertEquals(taken, own);
    library.call.close(taken);
    assertBytes(await received, DATA);
    const others = other.peer.all();
    other.end();
    assertEquals((await others).length, 0);
    other.close();
  },
  { only: "deno", skip: noLibc },
);
