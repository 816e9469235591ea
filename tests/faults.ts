import process from "node:process";
import type { Libc } from "../ffi/libc.ts";
import { loadLibc } from "../ffi/load.ts";
import { linux } from "../ffi/linux.ts";

/** What the nth call of sendfile does: fails with an error, moves at most so many bytes, throws. */
export type Faults = Record<number, string | number | Error>;

/** A C library of its own whose sendfile misbehaves in the named calls, and works in all others. */
export function faulty(faults: Faults): Libc {
  const system = linux(process.arch === "arm64" ? "arm64" : "x64");
  const libc = loadLibc(system);
  if (typeof libc === "string") throw new Error(libc);
  const real = libc.sendfile.bind(libc);
  let calls = 0;
  libc.sendfile = (out, file, offset, count) => {
    const fault = faults[++calls];
    if (fault === undefined) return real(out, file, offset, count);
    if (typeof fault === "number") return real(out, file, offset, Math.min(count, fault));
    if (fault instanceof Error) throw fault;
    const errno = Object.entries(system.errors).find(([, name]) => name === fault)?.[0];
    if (errno === undefined) throw new Error(`no number for ${fault}`);
    return -Number(errno);
  };
  return libc;
}
