import { assert, assertEquals } from "@std/assert";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import type * as net from "node:net";
import { createServer } from "node:net";
import process from "node:process";
import { fromFileUrl, join } from "@std/path";
import { bunLoader } from "../../ffi/bun.ts";
import { denoLoader } from "../../ffi/deno.ts";
import type { Libc } from "../../ffi/libc.ts";
import { sendfileStats, type Via } from "../../mod.ts";
import { bytes, concat, folder } from "./data.ts";
import { isBun } from "./harness.ts";

const sockets = (isBun ? bunLoader : denoLoader).load(["libc.so.6"], {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  socketpair: { args: ["i32", "i32", "i32", "buffer"], returns: "i32" },
  pipe2: { args: ["buffer", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
}, {});

const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const O_NONBLOCK = 0x800;

function call(name: string, ...args: unknown[]): number {
  if (typeof sockets === "string") throw new Error(sockets);
  return sockets.call[name](...args);
}

/** A UDP socket that the runtime knows nothing of. */
export function datagramDescriptor(): { fd: number; [Symbol.dispose](): void } {
  const fd = call("socket", AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  return { fd, [Symbol.dispose]: () => void call("close", fd) };
}

/** Two connected stream sockets that the runtime knows nothing of, and so does not read from. */
export function socketPair(): { here: number; there: number; [Symbol.dispose](): void } {
  const both = new Int32Array(2);
  call("socketpair", AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both);
  const [here, there] = both;
  return {
    here,
    there,
    [Symbol.dispose]() {
      call("close", here);
      call("close", there);
    },
  };
}

/** A pipe whose ends do not block, and that the runtime knows nothing of. */
export function pipe() {
  const ends = new Int32Array(2);
  call("pipe2", ends, O_NONBLOCK);
  const [read, write] = ends;
  const open = new Set(ends);
  const close = (fd: number) => {
    if (open.delete(fd)) call("close", fd);
  };
  return {
    read,
    write,
    closeRead: () => close(read),
    closeWrite: () => close(write),
    [Symbol.dispose]: () => open.forEach(close),
  };
}

/**
 * Fills a socket until it takes no more, and stays so while the peer does not read; returns what it took. `settle`:
 * milliseconds for what the peer's buffer takes over, which makes room here; on a unix socket nothing does.
 */
export function fill(libc: Libc, fd: number, settle = 50): Uint8Array {
  const chunk = bytes(65536, 77);
  const taken: Uint8Array[] = [];
  do {
    const sent = libc.send(fd, chunk, false);
    if (sent < 0) assertEquals(libc.errorName(sent), "EAGAIN");
    else taken.push(chunk.subarray(0, sent));
    assert(taken.length < 1000, "the socket takes it all");
  } while (libc.block(fd, "writable", settle));
  return concat(...taken);
}

/** Runs `body`, which sends by one way alone: by the other no byte may go meanwhile, and no transfer begin. */
export async function onlyBy<T>(way: Via, body: () => Promise<T>): Promise<T> {
  const before = sendfileStats();
  const result = await body();
  const after = sendfileStats();
  const other = way === "sendfile" ? "copy" : "sendfile";
  const reasons = JSON.stringify(after.reasons);
  assert(after[way].transfers > before[way].transfers, `nothing went by ${way}: ${reasons}`);
  assertEquals(after[other].transfers, before[other].transfers, `transfers by ${other}: ${reasons}`);
  assertEquals(after[other].bytes, before[other].bytes, `bytes by ${other}: ${reasons}`);
  return result;
}

/** A connection whose peer is another process, for calls that stop this thread. */
export interface ReadingChild {
  readonly socket: net.Socket;
  /** Ends the connection; resolves to all that the peer got. */
  received(): Promise<Uint8Array>;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function readInChild(): Promise<ReadingChild> {
  const dir = folder();
  const output = join(dir, "received");
  const { promise, resolve } = Promise.withResolvers<net.Socket>();
  const server = createServer(resolve);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as net.AddressInfo;
  const script = fromFileUrl(new URL("../children/reader.ts", import.meta.url));
  const args = isBun ? [script] : ["run", "-A", "--no-check", script];
  const child = spawn(process.execPath, [...args, String(port), output], { stdio: "inherit" });
  const exited = new Promise<void>((done) => child.once("exit", () => done()));
  const socket = await promise;
  return {
    socket,
    async received() {
      socket.end();
      await exited;
      return new Uint8Array(fs.readFileSync(output));
    },
    async [Symbol.asyncDispose]() {
      socket.destroy();
      server.close();
      child.kill();
      await exited;
      fs.rmSync(dir, { recursive: true });
    },
  };
}
