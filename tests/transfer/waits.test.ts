/** What ends a wait: `timeout` and `signal` count from the call, whatever a transfer waits for. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import { pathToFileURL } from "node:url";
import { fromFileUrl, join } from "@std/path";
import { libc as loadLibc } from "../../ffi/load.ts";
import { sendfile, SendfileTimeoutError } from "../../mod.ts";
import { assertBytes, bytes, concat, folder, testFile } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { fill, readInChild, socketPair } from "../support/helpers.ts";
import { nodeAccepted } from "../support/pairs_node.ts";

const MIB = 1024 * 1024;

/** A socket that takes nothing more until its peer reads. */
function fullPair() {
  const libc = loadLibc();
  if (typeof libc === "string") throw new Error(libc);
  const pair = socketPair();
  fill(libc, pair.here, 0);
  while (libc.send(pair.here, bytes(1), false) > 0); // where there is no room for a larger piece
  return pair;
}

test("a timeout and a signal end the wait behind another transfer", async () => {
  using pair = fullPair();
  using file = testFile(bytes(10));
  const leave = new AbortController();
  const blocked = sendfile(pair.here, file.path, { signal: leave.signal });
  await assertRejects(() => sendfile(pair.here, file.path, { timeout: 50 }), SendfileTimeoutError);
  const stop = new AbortController();
  const waiting = sendfile(pair.here, file.path, { signal: stop.signal });
  stop.abort(new Error("enough"));
  await assertRejects(() => waiting, Error, "enough");
  leave.abort(new Error("over"));
  await assertRejects(() => blocked, Error, "over");
});

test("a timeout counts from the call, not from the beginning", async () => {
  using pair = fullPair();
  using file = testFile(bytes(10));
  const [held, timeout] = [300, 400];
  const leave = new AbortController();
  const blocked = sendfile(pair.here, file.path, { signal: leave.signal });
  const late = new Promise<string>((resolve) => setTimeout(resolve, held + timeout, "too late"));
  const waiting = sendfile(pair.here, file.path, { timeout }).catch((error) => error.name);
  setTimeout(() => leave.abort(new Error("over")), held);
  await assertRejects(() => blocked, Error, "over");
  assertEquals(await Promise.race([waiting, late]), "SendfileTimeoutError");
});

test("a timeout and a signal end the wait behind earlier writes of a node socket", async () => {
  using file = testFile(bytes(10));
  const pair = await nodeAccepted.open();
  const all = pair.peer.all();
  pair.peer.socket.pause();
  const earlier = bytes(16 * MIB, 5);
  const written = pair.write(earlier);
  await assertRejects(() => sendfile(pair.socket, file.path, { timeout: 50 }), SendfileTimeoutError);
  const stop = new AbortController();
  const waiting = sendfile(pair.socket, file.path, { signal: stop.signal });
  stop.abort(new Error("enough"));
  await assertRejects(() => waiting, Error, "enough");
  const later = pair.write(bytes(20, 6));
  pair.peer.socket.resume();
  await Promise.all([written, later]);
  pair.end();
  assertBytes(await all, concat(earlier, bytes(20, 6)));
  pair.close();
});

/** Listens, takes one connection into its queue, and accepts none: the next connect gets no answer. */
const DEAF = `require("net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, function () {
  require("fs").writeSync(1, String(this.address().port) + "\\n");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
})`;

test("a timeout and a signal end the wait for a connection", async () => {
  using file = testFile(bytes(10));
  const child = spawn("node", ["-e", DEAF], { stdio: ["ignore", "pipe", "inherit"] });
  const sockets: net.Socket[] = [];
  try {
    const port = await new Promise<number>((resolve) => child.stdout.once("data", (text) => resolve(+text)));
    const connect = () => {
      const socket = net.connect(port, "127.0.0.1");
      socket.on("error", () => {});
      sockets.push(socket);
      return socket;
    };
    let socket: net.Socket;
    do {
      socket = connect();
      // One that is answered is so at once, on loopback.
      await new Promise((resolve) => setTimeout(resolve, 100));
    } while (!socket.connecting && sockets.length < 10);
    assert(socket.connecting, "every connection was answered");
    await assertRejects(() => sendfile(socket, file.path, { timeout: 50 }), SendfileTimeoutError);
    const stop = new AbortController();
    const waiting = sendfile(socket, file.path, { signal: stop.signal });
    stop.abort(new Error("enough"));
    await assertRejects(() => waiting, Error, "enough");
  } finally {
    for (const socket of sockets) socket.destroy();
    child.kill("SIGKILL");
  }
}, { skip: spawnSync("node", ["--version"]).status === 0 ? undefined : "no node" });

for (const timeout of [Infinity, 2 ** 31, 2 ** 40]) {
  test(`a timeout of ${timeout} ms does not end a transfer at once`, async () => {
    await using child = await readInChild();
    using file = testFile(bytes(9 * 1024 * 1024));
    assertEquals(await sendfile(child.socket, file.path, { timeout }), 9 * 1024 * 1024);
    assertEquals((await child.received()).length, 9 * 1024 * 1024);
  });
}

test("a transfer of another copy of the module waits for this one's", async () => {
  const copy = folder();
  try {
    const root = fromFileUrl(new URL("../..", import.meta.url));
    for (const name of fs.readdirSync(root)) {
      if (name.endsWith(".ts")) fs.copyFileSync(join(root, name), join(copy, name));
    }
    for (const name of ["fallback", "ffi", "files", "report", "sockets", "transfer"]) {
      fs.cpSync(join(root, name), join(copy, name), { recursive: true });
    }
    fs.symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    const other = await import(pathToFileURL(join(copy, "mod.ts")).href);
    assert(other.sendfile !== sendfile, "the same copy");
    using file = testFile(bytes(100_000, 1));
    using second = testFile(bytes(100_000, 2));
    const pair = await nodeAccepted.open({ small: true });
    const all = pair.peer.all();
    pair.peer.socket.pause();
    const results = [
      sendfile(pair.socket, file.path),
      other.sendfile(pair.socket, second.path),
      sendfile(pair.socket, file.path),
    ];
    pair.peer.socket.resume();
    assertEquals(await Promise.all(results), [100_000, 100_000, 100_000]);
    pair.end();
    assertBytes(await all, concat(bytes(100_000, 1), bytes(100_000, 2), bytes(100_000, 1)));
    pair.close();
  } finally {
    fs.rmSync(copy, { recursive: true });
  }
});
