import { socketClosed } from "../errors.ts";
import { nextRound, sleep } from "../runtime.ts";

/** The part in use of the socket of Bun's own http server. */
export interface BunHttpSocket {
  readonly destroyed: boolean;
  readonly _httpMessage?: { readonly writableLength: number } | null;
}

/** The longest wait, in milliseconds, between two looks at how much the server still holds. */
const LONGEST_WAIT = 250;

/**
 * Resolves when Bun's http server holds nothing of this connection any more; rejects where the connection has ended.
 *
 * A write to such a socket calls back at once, however much the server holds already, and no event tells when that has
 * gone (Bun 1.4.5). The response's `writableLength` counts it. The waits double: by the time the server's buffer is
 * empty the system's is still two thirds full, so a client waits for nothing, and a slow one costs four looks a second.
 */
export async function untilTaken(socket: BunHttpSocket, signal: AbortSignal): Promise<void> {
  // In any case: the end of a connection is an event, which no chain of promises lets through.
  await nextRound();
  for (let wait = 1; !socket.destroyed && !signal.aborted; wait = Math.min(2 * wait, LONGEST_WAIT)) {
    if (!socket._httpMessage?.writableLength) return;
    await sleep(wait);
  }
  if (socket.destroyed) throw socketClosed();
  signal.throwIfAborted();
}
