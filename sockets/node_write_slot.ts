import { Buffer } from "node:buffer";
import { socketClosed } from "../errors.ts";
import type { NodeSocketLike } from "./node_socket.ts";

/** A place among the writes of a node socket. */
export interface WriteSlot {
  /**
   * Resolves when the slot's turn comes: what was written before has left the stream, and what is written from now on
   * waits until `release`. Rejects with `ConnectionClosedError` where the socket is closed before that.
   */
  readonly granted: Promise<void>;
  /** The socket's own `_write`, past its buffer. */
  write: NodeSocketLike["_write"];
  /** Ends the turn, or gives the place up before it. To be called once the slot is not needed, whatever happened. */
  release(): void;
}

/**
 * Reserves the next place among a socket's writes, by a write of its own: an empty chunk that the stream's `_write`
 * takes as the grant, and whose end is `release`. So it stands behind what was written before, and what is written (or
 * ended) meanwhile stands behind it, as behind any other write. A cork would not do: `end()` takes it off.
 *
 * A socket has one slot at a time.
 */
export function reserveWrite(socket: NodeSocketLike): WriteSlot {
  const write = socket._write;
  // A write after the end would be an 'error' event on the user's socket.
  if (socket.destroyed || !socket.writable) {
    const granted = Promise.reject(socketClosed());
    granted.catch(() => {/* whoever needs the turn asks */});
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
    // With _writev the stream would hand over several chunks at once, and the turn among them.
    shadow(socket, "_writev", null);
    shadow(socket, "_write", (chunk: Uint8Array, encoding: string, callback: () => void) => {
      if (chunk !== turn) return write.call(socket, chunk, encoding, callback);
      endTurn = callback;
      resolve();
    });
    socket.write(turn, (error) => {
      if (!error || endTurn) return; // granted: whoever has the turn learns of the end by its own writes
      release();
      reject(socketClosed(error));
    });
  });
  granted.catch(() => {/* whoever needs the turn asks */});
  return { granted, write, release };
}

function shadow(socket: NodeSocketLike, name: "_write" | "_writev", value: unknown): void {
  Object.defineProperty(socket, name, { value, configurable: true, writable: true });
}
