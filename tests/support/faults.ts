import process from "node:process";
import type { Libc } from "../../ffi/libc.ts";
import { loadLibc } from "../../ffi/load.ts";
import { linux } from "../../ffi/linux.ts";

/** What the nth call of sendfile does: fails with an error, moves at most so many bytes, throws. */
export type Faults = Record<number, string | number | Error>;

/**
 * A C library of its own whose sendfile misbehaves in the named calls, and works in all others. `results` gets what
 * each call gave: bytes, or the name of its error.
 */
export function faulty(faults: Faults, results: (number | string)[] = []): Libc {
  const system = linux(process.arch === "arm64" ? "arm64" : "x64");
  const libc = loadLibc(system);
  if (typeof libc === "string") throw new Error(libc);
  const real = libc.sendfile.bind(libc);
  let calls = 0;
  const sendfile: Libc["sendfile"] = (out, file, offset, count) => {
    const fault = faults[++calls];
    if (fault === undefined) return real(out, file, offset, count);
    if (typeof fault === "number") return real(out, file, offset, Math.min(count, fault));
    if (fault instanceof Error) throw fault;
    const errno = Object.entries(system.errors).find(([, name]) => name === fault)?.[0];
    if (errno === undefined) throw new Error(`no number for ${fault}`);
    return -Number(errno);
  };
  libc.sendfile = (out, file, offset, count) => {
    const result = sendfile(out, file, offset, count);
    results.push(result < 0 ? libc.errorName(result) : result);
    return result;
  };
  return libc;
}
