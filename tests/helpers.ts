import { spawn } from "node:child_process";
import * as fs from "node:fs";
import type * as net from "node:net";
import { createServer } from "node:net";
import process from "node:process";
import { fromFileUrl, join } from "@std/path";
import { bunLoader } from "../ffi/bun.ts";
import { denoLoader } from "../ffi/deno.ts";
import { folder } from "./data.ts";
import { isBun } from "./harness.ts";

/** A UDP socket that the runtime knows nothing of. */
export function datagramDescriptor(): { fd: number; [Symbol.dispose](): void } {
  const library = (isBun ? bunLoader : denoLoader).load(["libc.so.6"], {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
  }, {});
  if (typeof library === "string") throw new Error(library);
  const AF_INET = 2;
  const SOCK_DGRAM_NONBLOCK = 2 | 0x800;
  const fd: number = library.call.socket(AF_INET, SOCK_DGRAM_NONBLOCK, 0);
  return { fd, [Symbol.dispose]: () => void library.call.close(fd) };
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
  const script = fromFileUrl(new URL("./reader.ts", import.meta.url));
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
