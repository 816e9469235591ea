import * as fs from "node:fs";
import process from "node:process";
import { libc } from "../ffi/load.ts";
import { isDeno } from "../runtime.ts";

/**
 * Descriptors that a process has open before it accepts connections (18 to 24 on Deno, 8 to 14 on Bun), plus those of
 * a poller.
 */
const OWN = 32;

/**
 * How many more descriptors this process can open; Infinity if the limit is not known. `estimate`: the number that
 * the server has open, used if the system does not count them.
 */
export function descriptorsLeft(estimate: number): number {
  const c = libc();
  if (typeof c === "string") return readLimit() - OWN - estimate;
  return c.maxDescriptors() - (c.countDescriptors() ?? OWN + estimate);
}

function readLimit(): number {
  // Deno allows reading /proc only with --allow-all, and would prompt otherwise.
  if (process.platform !== "linux" || isDeno) return Infinity;
  try {
    const limits = fs.readFileSync("/proc/self/limits", "latin1");
    return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Infinity);
  } catch {
    return Infinity;
  }
}
