import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import process from "node:process";
import { libc as loadLibc } from "../../ffi/load.ts";

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;

/** Gives the connections that a listener will have such small buffers that a file of 100 KB must wait. */
export function narrowDown(port: number): void {
  const libc = loadLibc();
  if (typeof libc === "string" || process.platform !== "linux") return;
  const wanted = libc.parseEndpoint("127.0.0.1", port)!;
  const local = new Uint8Array(18);
  for (let fd = 0; fd < libc.descriptorLimit(); fd++) {
    if (!libc.endpoint(fd, "local", local) || Buffer.compare(local, wanted) !== 0) continue;
    assertEquals(libc.setOption(fd, SOL_SOCKET, SO_SNDBUF, 64 * 1024), 0);
    return;
  }
  throw new Error("the listener was not found");
}
