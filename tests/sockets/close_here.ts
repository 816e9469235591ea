import type { Pair } from "../support/pair.ts";

/** Closes the socket under test as its owner would, and leaves the peer as it is. */
export function closeHere(pair: Pair): void {
  const { destroy, terminate } = pair.socket as unknown as Record<string, (() => void) | undefined>;
  const close = destroy ?? terminate;
  if (close) close.call(pair.socket);
  else pair.end();
}
