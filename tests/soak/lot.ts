/** What every part of the soak draws by lot, the same in each run from one seed. */
import { setImmediate } from "node:timers";

/** A number from 0 on, below the given one. */
export type Draw = (below: number) => number;

/** Numbers that look like chance and are the same in every run (mulberry32). */
export function lot(seed: number): Draw {
  return (below) => {
    seed = seed + 0x6d2b79f5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) % below;
  };
}

/** Milliseconds for which turns are waited for at most: on a busy machine one takes 60. */
const LONGEST = 300;

/** So many turns of the loop, fewer where they take long. */
export async function turns(count: number): Promise<void> {
  for (const began = performance.now(); count > 0 && performance.now() - began < LONGEST; count--) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}
