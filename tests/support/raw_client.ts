/** Clients by system calls of their own: what a runtime's sockets never do, at once and without an event loop. */
import { bunLoader } from "../../ffi/bun.ts";
import { denoLoader } from "../../ffi/deno.ts";
import { isBun } from "./harness.ts";

const sockets = (isBun ? bunLoader : denoLoader).load(["libc.so.6"], {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "buffer", "u32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "buffer", "u32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
}, {});

/** Why a test that needs this is skipped. */
export const noRawClient: string | undefined = typeof sockets === "string" ? sockets : undefined;

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SO_LINGER = 13;

/** struct linger { int l_onoff; int l_linger; }: close() resets the connection. */
const RESET = new Int32Array([1, 0]);

/** Connects to 127.0.0.1 and resets the connection, `count` times, before this thread does anything else. */
export function connectAndReset(port: number, count: number): void {
  if (typeof sockets === "string") throw new Error(sockets);
  const { call } = sockets;
  const address = new Uint8Array(16);
  address.set([AF_INET, 0, port >> 8, port & 255, 127, 0, 0, 1]);
  for (let i = 0; i < count; i++) {
    const fd = call.socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) throw new Error("no socket");
    const connected = call.connect(fd, address, address.length) === 0;
    call.setsockopt(fd, SOL_SOCKET, SO_LINGER, RESET, RESET.byteLength);
    call.close(fd);
    if (!connected) throw new Error(`connection ${i} was refused`);
  }
}
