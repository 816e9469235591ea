import { Buffer } from "node:buffer";
import { socketClosed } from "../errors.ts";
import type { NodeSocketLike } from "./node_socket.ts";

/** A reserved place among the writes of a node socket. */
export interface WriteSlot {
  /**
   * Resolves when it is the slot's turn: earlier writes have left the stream, and later writes wait until `release`.
   * Rejects with `ConnectionClosedError` if the socket is closed first.
   */
  readonly granted: Promise<void>;
  /** The socket's own `_write`, which bypasses the stream's buffer. */
  write: NodeSocketLike["_write"];
  /** Ends the turn, or gives up the place before the turn. Must always be called when the slot is no longer needed. */
  release(): void;
}

/**
 * Reserves the next place among a socket's writes by writing an empty chunk. When the stream passes this chunk to
 * `_write`, the slot's turn has come; `release` calls the chunk's callback. Earlier writes therefore come first, and
 * later writes (and `end()`) wait as behind any other write. A cork cannot do this: `end()` removes it.
 *
 * A socket has one slot at a time.
 */
export function reserveWrite(socket: NodeSocketLike): WriteSlot {
  const write = socket._write;
  // A write after the end would emit an 'error' event on the user's socket.
  if (socket.destroyed || !socket.writable) {
    const granted = Promise.reject(socketClosed());
    granted.catch(() => {/* the error is for those who await `granted` */});
    return { granted, write, release() {} };
  }
  const turn = Buffer.alloc(0);
  let isReleased = false;
  let endTurn: (() => void) | undefined;
  const release = () => {
    if (isReleased) return;
    isReleased = true;
    Reflect.deleteProperty(socket, "_write");
    Reflect.deleteProperty(socket, "_writev");
    endTurn?.();
  };
  const granted = new Promise<void>((resolve, reject) => {
    // With `_writev` the stream would pass several chunks at once, including the turn's.
    shadow(socket, "_writev", null);
    shadow(socket, "_write", (chunk: Uint8Array, encoding: string, callback: () => void) => {
      if (chunk !== turn) return write.call(socket, chunk, encoding, callback);
      endTurn = callback;
      resolve();
    });
    socket.write(turn, (error) => {
      if (!error || endTurn) return; // granted: the transfer's own writes will fail
      release();
      reject(socketClosed(error));
    });
  });
  granted.catch(() => {/* the error is for those who await `granted` */});
  return { granted, write, release };
}

function shadow(socket: NodeSocketLike, name: "_write" | "_writev", value: unknown): void {
  Object.defineProperty(socket, name, { value, configurable: true, writable: true });
}
