/** Milliseconds between two calls of each. */
const SECOND = 1000;

/** Parts in which all are called, one after another: thousands at once would hold the thread. */
const PARTS = 8;

const parts: readonly Set<() => void>[] = Array.from({ length: PARTS }, () => new Set());
let entered = 0;
let size = 0;
let turn = 0;
let timer: ReturnType<typeof setInterval> | undefined;

/**
 * Calls `look` once a second, until the function that it gives is called. One timer for all: with an interval each,
 * thousands of slow downloads cost half as much again as the looks themselves (measured).
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
