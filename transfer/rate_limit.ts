import { sleep } from "../runtime.ts";

/** The longest delay of a timer in milliseconds: a timer with a longer delay fires at once. */
export const LONGEST_TIMER = 2 ** 31 - 1;

/** Pieces per second that a rate-limited transfer is cut into. */
const PIECES = 10;

/** The largest piece, in bytes, that a limit of bytes per second allows at once. */
export function pieceOf(rateLimit: number | undefined): number {
  return rateLimit === undefined ? Infinity : Math.max(1, Math.floor(rateLimit / PIECES));
}

/**
 * Milliseconds until the rate limit allows the next piece, given that `sent` bytes were sent since `began`
 * (performance.now).
 */
export function aheadOf(rateLimit: number | undefined, began: number, sent: number): number {
  return rateLimit === undefined ? 0 : began + sent / rateLimit * 1000 - performance.now();
}

/** Sleeps until `ahead` returns 0 milliseconds or less. Throws the reason of `stop` if it is aborted. */
export async function sleepWhile(ahead: () => number, stop: AbortSignal | undefined): Promise<void> {
  for (let left = ahead(); left > 0; left = ahead()) await sleep(Math.min(left, LONGEST_TIMER), stop);
}
