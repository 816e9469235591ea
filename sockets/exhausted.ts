/** Errors that leave nothing to do but wait: the process or the system has run out of descriptors or memory. */
const EXHAUSTED = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

/**
 * Whether a call failed because descriptors or memory have run out. Every other error of accept(2) concerns one
 * connection, which has left the queue with it (accept(2), "Error handling"; Deno's `NotConnected`: the peer had already
 * reset it).
 */
export function isExhausted(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code !== undefined && EXHAUSTED.has(code);
}
