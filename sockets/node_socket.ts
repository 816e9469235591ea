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

/** What the stream is told of a write: nothing, or what went wrong. */
export type NodeWriteCallback = (error?: Error | null) => void;

/** The part in use of node:net's Socket. Deno, Bun and Node.js each have their own. */
export interface NodeSocketLike {
  /** Whether it waits for its connection. */
  readonly connecting: boolean;
  /** Whether it was closed. */
  readonly destroyed: boolean;
  /** Whether its sending direction is open. */
  readonly writable: boolean;
  /** Bytes that it buffers. */
  readonly writableLength: number;
  /** How often `cork` was called without `uncork`. */
  readonly writableCorked?: number;
  /** The state of the stream: how many writes have not called back. */
  readonly _writableState?: { readonly pendingcb?: number };
  /** Whether it is TLS. */
  readonly encrypted?: boolean;
  /** This end's IP address. */
  readonly localAddress?: string;
  /** This end's port. */
  readonly localPort?: number;
  /** The peer's IP address. */
  readonly remoteAddress?: string;
  /** The peer's port. */
  readonly remotePort?: number;
  /** The runtime's own socket: it leads to the descriptor. */
  readonly _handle?: { fd?: number; fdForIpc?(): number } | null;
  /** The response that node:http has under way on the socket. */
  readonly _httpMessage?: { readonly writableLength: number } | null;
  /** Writes, behind what was written before. */
  write(bytes: Uint8Array, callback: NodeWriteCallback): boolean;
  /** Closes it. */
  destroy(): unknown;
  /** Adds a listener for one event. */
  once(event: string, listener: () => void): unknown;
  /** Takes a listener off. */
  removeListener(event: string, listener: () => void): unknown;
  /** Restarts the idle timer of setTimeout. */
  _unrefTimer?(): void;
  /** The stream's own write, past its buffer. */
  _write(chunk: Uint8Array, encoding: string, callback: NodeWriteCallback): void;
  /** The same for several chunks. */
  _writev?: unknown;
}

export function isNodeSocket(socket: object): socket is NodeSocketLike {
  return "connecting" in socket && "_write" in socket && "destroy" in socket && "remoteAddress" in socket;
}

/** A socket of Bun's own http server, with a response under way. */
function isBunHttp(socket: NodeSocketLike): boolean {
  return isBun && !socket._handle && !!socket._httpMessage;
}

/** node:net and node:http sockets. */
export class NodeSocket implements SocketAdapter {
  readonly #socket: NodeSocketLike;
  /** The place among the socket's writes of the transfer that is under way. */
  #slot: WriteSlot | undefined;
  /**
   * What the search found: a search for each response took 5 times as long as all the rest of a small one (measured,
   * 64 descriptors).
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
    if (typeof handle?.fdForIpc === "function") { // Deno: a duplicate for the caller
      const fd = handle.fdForIpc();
      return fd >= 0 ? this.#descriptor(libc, fd, true) : DENO_GAVE_NONE;
    }
    if (typeof handle?.fd === "number" && handle.fd >= 0) return this.#descriptor(libc, handle.fd, false);
    if (isBunHttp(socket)) return this.#findBunHttp(libc);
    return RUNTIME_TELLS_NONE;
  }

  #descriptor(libc: Libc, fd: number, owned: boolean): Descriptor {
    // A node:http server destroys its socket where the client has ended its direction; ours still leads to it.
    const isHttp = !!this.#socket._httpMessage;
    const alive = (ours: number) =>
      !this.#socket.destroyed || (isHttp && libc.tcp(ours)?.halfClosed === true);
    return { fd, owned, alive };
  }

  /** Bun's node:http has no handle; and its server can hold bytes that the stream has let go of. */
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
    const slot = this.#reserve(); // what is written from here on waits
    return running.finally(() => this.#release(slot));
  }

  /** Whether all that was written has left the runtime, so that there is nothing to wait for. */
  #isIdle(): boolean {
    const { connecting, destroyed, writable, writableLength, writableCorked, _writableState } = this.#socket;
    return !connecting && !destroyed && writable && writableLength === 0 && writableCorked === 0 &&
      _writableState?.pendingcb === 0 && !isBunHttp(this.#socket);
  }

  /** Waits for the socket's turn to write, and runs `work` in it. */
  async #runInSlot(work: () => number | Promise<number>): Promise<number> {
    const socket = this.#socket;
    const slot = this.#reserve();
    try {
      // The stream grants the turn within its `_write`, where its buffer is in between two states (Deno's bytesWritten
      // throws); behind this await it no longer is.
      await slot.granted;
      if (socket.connecting) await connected(socket);
      // Bun's http server corks what a request's event writes until the event is over: the body would overtake it.
      if (isBunHttp(socket)) await yieldToEventLoop();
      return await work();
    } finally {
      this.#release(slot);
    }
  }

  #reserve(): WriteSlot {
    return this.#slot = reserveWrite(this.#socket);
  }

  /** Before anybody hears of the end of the work: the next transfer of this socket reserves its own slot. */
  #release(slot: WriteSlot): void {
    this.#slot = undefined;
    slot.release();
  }

  write(bytes: Uint8Array, signal: AbortSignal): Promise<number> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      // The stream may still read the chunk after its callback (Bun's http server keeps what does not fit).
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
      socket.removeListener("close", go); // then the first use of the descriptor says so
      resolve();
    };
    socket.once("connect", go);
    socket.once("close", go);
  });
}
