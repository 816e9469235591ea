/**
 * The lower bound that `sendfile()` is compared with under `--bare`: the two system calls, without any safety check.
 * It looks the descriptor up once, and would write to another connection if the number were reused.
 */
import process from "node:process";
import type { Libc } from "../ffi/libc.ts";
import { libc as loadLibc } from "../ffi/load.ts";
import { writable } from "../ffi/mod.ts";
import { sendfile, type SendfileSocket } from "../mod.ts";
import { adapterOf } from "../sockets/mod.ts";
import type { Served } from "./served.ts";

const descriptors = new WeakMap<object, number>();

async function bare(
  socket: SendfileSocket & object,
  file: number,
  options: Served["options"],
): Promise<number> {
  const libc = loadLibc() as Libc;
  let fd = descriptors.get(socket);
  if (fd === undefined) {
    const descriptor = adapterOf(socket).open(libc);
    if (typeof descriptor === "string") throw new Error(descriptor);
    descriptors.set(socket, fd = descriptor.fd);
  }
  const { header, count } = options;
  libc.send(fd, header!, true);
  for (let sent = 0; sent < count!;) {
    const moved = libc.sendfile(fd, file, sent, count! - sent);
    if (moved > 0) sent += moved;
    else if (moved < 0 && libc.errorName(moved) === "EAGAIN") await writable(fd);
    else throw new Error("the client has left");
  }
  return count!;
}

/** The function that the servers send with. */
export const send: typeof bare = process.env.BENCH_BARE ? bare : sendfile;
