import { socketClosed } from "../errors.ts";
import type { Libc } from "../ffi/libc.ts";
import { room } from "./room.ts";
import type { Descriptor, Target } from "./target.ts";

/** The part in use of what `Bun.listen` and `Bun.connect` give. */
export interface BunSocketLike {
  readonly fd: number;
  readonly readyState: number;
  write(bytes: Uint8Array): number;
  shutdown(): void;
  getCipher?(): unknown;
  reload(handlers: unknown): void;
}

export function isBunSocket(socket: object): socket is BunSocketLike {
  return "readyState" in socket && "fd" in socket && "reload" in socket && "shutdown" in socket;
}

const OPEN = 1;

/** `Bun.listen` and `Bun.connect` sockets: TCP and unix natively, TLS by the runtime. They buffer no writes. */
export class BunSocket implements Target {
  readonly #socket: BunSocketLike;

  constructor(socket: BunSocketLike) {
    this.#socket = socket;
  }

  open(libc: Libc): Descriptor | string {
    const socket = this.#socket;
    // A socket under upgradeTLS calls itself TCP, but has a cipher.
    if (
      String(Object.prototype.toString.call(socket)).includes("TLS") || socket.getCipher?.() !== undefined
    ) {
      return "TLS";
    }
    const { fd } = socket;
    if (fd < 0 || socket.readyState !== OPEN) return "the socket is closed";
    const cookie = libc.cookie(fd);
    return {
      fd,
      owned: false,
      alive: () => socket.fd === fd && socket.readyState === OPEN && libc.cookie(fd) === cookie,
    };
  }

  isOpen(): boolean {
    return this.#socket.readyState === OPEN;
  }

  async write(bytes: Uint8Array, signal: AbortSignal): Promise<number> {
    const socket = this.#socket;
    while (this.isOpen()) {
      const written = socket.write(bytes);
      if (written > 0) return written;
      await room(socket.fd, signal);
    }
    throw socketClosed();
  }

  abandon(): void {
    this.#socket.shutdown();
  }
}
