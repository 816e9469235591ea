import { Buffer } from "node:buffer";
import { socketClosed } from "../errors.ts";
import { findConnection, parseConnection } from "../ffi/find.ts";
import type { Libc } from "../ffi/libc.ts";
import { isBun, yieldToEventLoop } from "../runtime.ts";
import { ConnectionView } from "./acknowledged.ts";
import { untilTaken } from "./bun_http.ts";
import type { Descriptor, SocketAdapter } from "./adapter.ts";
import { FoundDescriptor } from "./found_descriptor.ts";
import { reserveWrite, type WriteSlot } from "./node_write_slot.ts";
import {
  DENO_GAVE_NONE,
  NOT_FOUND,
  RUNTIME_TELLS_NONE,
  SERVER_HOLDS_BYTES,
  SOCKET_CLOSED,
  TLS,
} from "../reasons.ts";

/** Called when a write is done, with the error if it failed. */
export type NodeWriteCallback = (error?: Error | null) => void;

/** The members of node:net's Socket that we use. Deno, Bun and Node.js each implement it. */
export interface NodeSocketLike {
  /** Whether the socket is still connecting. */
  readonly connecting: boolean;
  /** Whether the socket was closed. */
  readonly destroyed: boolean;
  /** Whether the sending direction is open. */
  readonly writable: boolean;
  /** The number of buffered bytes. */
  readonly writableLength: number;
  /** The number of `cork` calls without `uncork`. */
  readonly writableCorked?: number;
  /** The stream's state. `pendingcb` counts the writes that have not called back. */
  readonly _writableState?: { readonly pendingcb?: number };
  /** Whether the socket is TLS. */
  readonly encrypted?: boolean;
  /** This end's IP address. */
  readonly localAddress?: string;
  /** This end's port. */
  readonly localPort?: number;
  /** The peer's IP address. */
  readonly remoteAddress?: string;
  /** The peer's port. */
  readonly remotePort?: number;
  /** The runtime's own socket, which has the descriptor. */
  readonly _handle?: { fd?: number; fdForIpc?(): number } | null;
  /** The node:http response that is being sent on the socket. */
  readonly _httpMessage?: { readonly writableLength: number } | null;
  /** Appends a write to the stream. */
  write(bytes: Uint8Array, callback: NodeWriteCallback): boolean;
  /** Closes the socket. */
  destroy(): unknown;
  /** Adds a listener for one event. */
  once(event: string, listener: () => void): unknown;
  /** Removes a listener. */
  removeListener(event: string, listener: () => void): unknown;
  /** Restarts the idle timer of `setTimeout`. */
  _unrefTimer?(): void;
  /** Writes a chunk without the stream's buffer. */
  _write(chunk: Uint8Array, encoding: string, callback: NodeWriteCallback): void;
  /** Writes several chunks without the stream's buffer. */
  _writev?: unknown;
}

export function isNodeSocket(socket: object): socket is NodeSocketLike {
  return "connecting" in socket && "_write" in socket && "destroy" in socket && "remoteAddress" in socket;
}

/** Whether it is a socket of Bun's own http server with a response in progress. */
function isBunHttp(socket: NodeSocketLike): boolean {
  return isBun && !socket._handle && !!socket._httpMessage;
}

/**
 * Whether it is the socket of node:http on Bun before 1.4, which writes nothing: `_write` is never called. Those of 1.4
 * have a handle, which is null.
 */
export function isOldBunHttp(socket: NodeSocketLike): boolean {
  return isBunHttp(socket) && !("_handle" in socket);
}

/** node:net and node:http sockets. */
export class NodeSocket implements SocketAdapter {
  readonly #socket: NodeSocketLike;
  /** The write slot of the transfer in progress. */
  #slot: WriteSlot | undefined;
  /**
   * The descriptor found by a search. A search for each response would take 5 times as long as the rest of a small
   * response (measured, 64 descriptors).
   */
  #found: FoundDescriptor | undefined;
  #view: ConnectionView | undefined;

  constructor(socket: NodeSocketLike) {
    this.#socket = socket;
  }

  open(libc: Libc): Descriptor | string {
    const socket = this.#socket;
    if (socket.encrypted) return TLS;
    if (socket.destroyed) return SOCKET_CLOSED;
    const handle = socket._handle;
    if (typeof handle?.fdForIpc === "function") { // Deno: a duplicate that the caller closes
      const fd = handle.fdForIpc();
      return fd >= 0 ? this.#descriptor(libc, fd, true) : DENO_GAVE_NONE;
    }
    if (typeof handle?.fd === "number" && handle.fd >= 0) return this.#descriptor(libc, handle.fd, false);
    if (isBunHttp(socket)) return this.#findBunHttp(libc);
    return RUNTIME_TELLS_NONE;
  }

  #descriptor(libc: Libc, fd: number, owned: boolean): Descriptor {
    // A node:http server destroys its socket when the client half-closes. The connection itself is still open, and
    // `ours` still refers to it.
    const isHttp = !!this.#socket._httpMessage;
    const alive = (ours: number) =>
      !this.#socket.destroyed || (isHttp && libc.tcp(ours)?.halfClosed === true);
    return { fd, owned, alive };
  }

  /**
   * Searches for the descriptor, because Bun's node:http sockets have no handle. Bun's server can hold bytes that have
   * already left the stream.
   */
  #findBunHttp(libc: Libc): Descriptor | string {
    const { localAddress = "", localPort = 0, remoteAddress = "", remotePort = 0, _httpMessage } =
      this.#socket;
    if (_httpMessage?.writableLength !== 0) return SERVER_HOLDS_BYTES;
    if (this.#found?.isSame(libc)) return this.#descriptor(libc, this.#found.fd, false);
    const local = { hostname: localAddress, port: localPort };
    const connection = parseConnection(libc, local, { hostname: remoteAddress, port: remotePort });
    const fd = connection && findConnection(libc, connection);
    if (fd === undefined) return NOT_FOUND;
    this.#found = new FoundDescriptor(libc, fd);
    return this.#descriptor(libc, fd, false);
  }

  runInWriteOrder(work: () => number | Promise<number>, quiet: boolean): number | Promise<number> {
    if (!quiet || !this.#isIdle()) return this.#runInSlot(work);
    const running = work();
    if (typeof running === "number") return running;
    const slot = this.#reserve(); // holds back later writes
    return running.finally(() => this.#release(slot));
  }

  /** Whether all earlier writes have left the runtime, so that there is nothing to wait for. */
  #isIdle(): boolean {
    const { connecting, destroyed, writable, writableLength, writableCorked, _writableState } = this.#socket;
    return !connecting && !destroyed && writable && writableLength === 0 && writableCorked === 0 &&
      _writableState?.pendingcb === 0 && !isBunHttp(this.#socket);
  }

  /** Waits for the socket's turn to write, then runs `work`. */
  async #runInSlot(work: () => number | Promise<number>): Promise<number> {
    const socket = this.#socket;
    const slot = this.#reserve();
    try {
      // The stream grants the turn inside its own `_write`, while its state is inconsistent (Deno's `bytesWritten`
      // throws there). After this await the state is consistent again.
      await slot.granted;
      if (socket.connecting) await connected(socket);
      // Bun's http server corks the writes of a request handler until its event is over. Without this wait the body
      // would overtake them.
      if (isBunHttp(socket)) await yieldToEventLoop();
      return await work();
    } finally {
      this.#release(slot);
    }
  }

  #reserve(): WriteSlot {
    return this.#slot = reserveWrite(this.#socket);
  }

  /** Ends the slot before the result of `work` is seen: the socket's next transfer reserves a slot of its own. */
  #release(slot: WriteSlot): void {
    this.#slot = undefined;
    slot.release();
  }

  write(bytes: Uint8Array, signal: AbortSignal): Promise<number> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      // Copied, because the stream may read the chunk after its callback: Bun's http server keeps what does not fit.
      const chunk = Buffer.from(bytes);
      const closed = () => done(socketClosed());
      const aborted = () => done(signal.reason);
      const done = (error?: Error | null) => {
        socket.removeListener("close", closed);
        signal.removeEventListener("abort", aborted);
        if (error) reject(error);
        else resolve(bytes.length);
      };
      if (socket.destroyed) return reject(socketClosed());
      socket.once("close", closed);
      signal.addEventListener("abort", aborted);
      (this.#slot?.write ?? socket._write).call(socket, chunk, "buffer", (error) => {
        if (error || !isBunHttp(socket)) done(error);
        else untilTaken(socket, signal).then(() => done(), done);
      });
    });
  }

  pending(): boolean {
    return this.#socket.writableLength > 0 || this.#socket.connecting;
  }

  acknowledged(libc: Libc): number | undefined {
    const { localAddress, localPort = 0, remoteAddress, remotePort = 0 } = this.#socket;
    if (localAddress === undefined || remoteAddress === undefined) return undefined;
    const local = { hostname: localAddress, port: localPort };
    const remote = { hostname: remoteAddress, port: remotePort };
    return (this.#view ??= new ConnectionView()).acknowledged(libc, local, remote);
  }

  touch(): void {
    this.#socket._unrefTimer?.();
  }

  lost(): void {
    this.#socket.destroy();
  }

  abandon(): void {
    this.#socket.destroy();
  }
}

function connected(socket: NodeSocketLike): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      socket.removeListener("connect", go);
      socket.removeListener("close", go); // after a close the first use of the descriptor fails
      resolve();
    };
    socket.once("connect", go);
    socket.once("close", go);
  });
}
