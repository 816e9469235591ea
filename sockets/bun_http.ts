import { socketClosed } from "../errors.ts";
import { nextRound, sleep } from "../runtime.ts";

/** The members of a Bun http server's socket that we use. */
export interface BunHttpSocket {
  readonly destroyed: boolean;
  readonly _httpMessage?: { readonly writableLength: number } | null;
}

/** The longest pause, in milliseconds, between two checks of how much the server still holds. */
const LONGEST_WAIT = 250;

/**
 * Resolves when Bun's http server holds no more bytes of this connection; rejects if the connection has ended.
 *
 * A write to such a socket calls back at once, however many bytes the server already holds, and no event reports that
 * they have left (Bun 1.4.5). The response's `writableLength` counts them. The pauses double from 1 ms: when the
 * server's buffer is empty, the system's is still two thirds full, so the client never waits for us; a slow client
 * costs four checks a second.
 */
export async function untilTaken(socket: BunHttpSocket, signal: AbortSignal): Promise<void> {
  // Always awaited: the end of a connection is an event, and no event fires while only promises are resolved.
  await nextRound();
  for (let wait = 1; !socket.destroyed && !signal.aborted; wait = Math.min(2 * wait, LONGEST_WAIT)) {
    if (!socket._httpMessage?.writableLength) return;
    await sleep(wait);
  }
  if (socket.destroyed) throw socketClosed();
  signal.throwIfAborted();
}
