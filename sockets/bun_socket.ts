import { socketClosed } from "../errors.ts";
import type { Libc } from "../ffi/libc.ts";
import { room } from "./wait_writable.ts";
import type { Descriptor, SocketAdapter } from "./adapter.ts";
import { SOCKET_CLOSED, TLS } from "../reasons.ts";

/** The part in use of what `Bun.listen` and `Bun.connect` give. */
export interface BunSocketLike {
  /** Its descriptor; below 0 once it is closed. Bun's types do not tell of it. */
  readonly fd?: number;
  /** 1: open. */
  readonly readyState: number;
  /** Writes some of the bytes; below 0 where the connection is lost. */
  write(bytes: Uint8Array): number;
  /** Ends the sending direction. */
  shutdown(): void;
  /** The cipher of a TLS socket. */
  getCipher?(): unknown;
  /** Puts other handlers in place. */
  reload(handlers: unknown): void;
}

/** As they are: every socket has the property. */
interface BunSocketWithFd extends BunSocketLike {
  readonly fd: number;
}

export function isBunSocket(socket: object): socket is BunSocketWithFd {
  return "readyState" in socket && "fd" in socket && "reload" in socket && "shutdown" in socket;
}

const OPEN = 1;

/** `Bun.listen` and `Bun.connect` sockets: TCP and unix natively, TLS by the runtime. They buffer no writes. */
export class BunSocket implements SocketAdapter {
  readonly #socket: BunSocketWithFd;
  /** Asked once: a socket under upgradeTLS is another object, and the one it was made of is closed. */
  readonly #isTls: boolean;

  constructor(socket: BunSocketWithFd) {
    this.#socket = socket;
    // What upgradeTLS gives as the raw socket calls itself TCP, but has a cipher.
    this.#isTls = String(Object.prototype.toString.call(socket)).includes("TLS") ||
      socket.getCipher?.() !== undefined;
  }

  open(): Descriptor | string {
    if (this.#isTls) return TLS;
    const { fd } = this.#socket;
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
      if (written < 0) throw socketClosed(); // lost; paused, it is not seen to be closed
      await room(socket.fd, signal);
    }
    throw socketClosed();
  }

  acknowledged(libc: Libc): number | undefined {
    return this.isOpen() ? libc.tcp(this.#socket.fd)?.acked : undefined;
  }

  abandon(): void {
    this.#socket.shutdown();
  }
}
