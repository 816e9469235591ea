/** Errors that require waiting: the process or the system has run out of descriptors or memory. */
const EXHAUSTED = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

/**
 * Whether a call failed because descriptors or memory have run out. Every other error of accept(2) concerns a single
 * connection, which accept(2) has removed from the queue ("Error handling" in its manual; Deno's `NotConnected`: the
 * peer had already reset the connection).
 */
export function isExhausted(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code !== undefined && EXHAUSTED.has(code);
}
