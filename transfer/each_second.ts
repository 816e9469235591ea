/** Milliseconds between two calls of one function. */
const SECOND = 1000;

/**
 * The functions are divided into this many groups, whose calls are spread over the second. Thousands of calls at once
 * would hold the thread.
 */
const PARTS = 8;

const parts: readonly Set<() => void>[] = Array.from({ length: PARTS }, () => new Set());
let entered = 0;
let size = 0;
let turn = 0;
let timer: ReturnType<typeof setInterval> | undefined;

/**
 * Calls `look` once a second until the returned function is called. All functions share one timer: with an interval
 * each, the timers of thousands of slow downloads add half of what the calls themselves cost (measured).
 */
export function eachSecond(look: () => void): () => void {
  const part = parts[entered++ % PARTS];
  part.add(look);
  if (size++ === 0) timer = setInterval(lookAtOnePart, SECOND / PARTS);
  return () => {
    if (!part.delete(look)) return;
    if (--size === 0) clearInterval(timer);
  };
}

function lookAtOnePart(): void {
  for (const look of parts[turn++ % PARTS]) look();
}
