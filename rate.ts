/** Pieces a second that a rate limit is cut into. */
const PIECES = 10;

/** The largest piece, in bytes, that a limit of bytes per second allows at once. */
export function pieceOf(rateLimit: number | undefined): number {
  return rateLimit === undefined ? Infinity : Math.max(1, Math.floor(rateLimit / PIECES));
}

/** Milliseconds until the limit lets the next piece go, where `sent` bytes have gone since `began` (performance.now). */
export function aheadOf(rateLimit: number | undefined, began: number, sent: number): number {
  return rateLimit === undefined ? 0 : began + sent / rateLimit * 1000 - performance.now();
}
