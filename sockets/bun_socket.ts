import { socketClosed } from "../errors.ts";
import type { Libc } from "../ffi/libc.ts";
import { room } from "./wait_writable.ts";
import type { Descriptor, SocketAdapter } from "./adapter.ts";
import { RUNTIME_TELLS_NONE, SOCKET_CLOSED, TLS } from "../reasons.ts";

/** The members that we use of a socket from `Bun.listen` or `Bun.connect`. */
export interface BunSocketLike {
  /** Its descriptor; negative once the socket is closed. Bun's types do not declare it; Bun before 1.3.3 has none. */
  readonly fd?: number;
  /** 1 if the socket is open. */
  readonly readyState: number;
  /** Writes some of the bytes and returns how many; negative if the connection is lost. */
  write(bytes: Uint8Array): number;
  /** Closes the sending direction. */
  shutdown(): void;
  /** The cipher; undefined if the socket is not TLS. */
  getCipher?(): unknown;
  /** Replaces the event handlers. */
  reload(handlers: unknown): void;
}

export function isBunSocket(socket: object): socket is BunSocketLike {
  return "readyState" in socket && "write" in socket && "reload" in socket && "shutdown" in socket;
}

const OPEN = 1;

/**
 * Sockets of `Bun.listen` and `Bun.connect`: TCP and unix sockets by sendfile(2), TLS by the runtime. They buffer no
 * writes.
 */
export class BunSocket implements SocketAdapter {
  readonly #socket: BunSocketLike;
  /** Cached: it cannot change, because upgradeTLS returns a new object and closes the old one. */
  readonly #isTls: boolean;

  constructor(socket: BunSocketLike) {
    this.#socket = socket;
    // The raw socket that upgradeTLS returns is tagged TCP, but has a cipher.
    this.#isTls = String(Object.prototype.toString.call(socket)).includes("TLS") ||
      socket.getCipher?.() !== undefined;
  }

  open(): Descriptor | string {
    if (this.#isTls) return TLS;
    const { fd } = this.#socket;
    if (fd === undefined) return RUNTIME_TELLS_NONE;
    if (fd < 0 || !this.isOpen()) return SOCKET_CLOSED;
    return { fd, owned: false, alive: () => this.#socket.fd === fd && this.isOpen() };
  }

  isOpen(): boolean {
    return this.#socket.readyState === OPEN;
  }

  async write(bytes: Uint8Array, signal: AbortSignal): Promise<number> {
    const socket = this.#socket;
    while (this.isOpen()) {
      const written = socket.write(bytes);
      if (written > 0) return written;
      if (written < 0) throw socketClosed(); // the connection is lost; a paused socket does not become closed
      await room(socket.fd ?? -1, signal);
    }
    throw socketClosed();
  }

  acknowledged(libc: Libc): number | undefined {
    const { fd } = this.#socket;
    return fd !== undefined && this.isOpen() ? libc.tcp(fd)?.acked : undefined;
  }

  abandon(): void {
    this.#socket.shutdown();
  }
}
