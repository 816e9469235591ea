import { findConnection, parseConnection } from "../ffi/find.ts";
import type { Libc } from "../ffi/libc.ts";
import { libc as loadedLibc } from "../ffi/load.ts";
import type { SocketAdapter } from "./adapter.ts";

/**
 * Bytes that the peer's system has acknowledged of all that was sent to it; undefined where nobody can tell: no FFI,
 * another system than Linux, a unix socket, a closed socket.
 */
export function acknowledgedBy(target: SocketAdapter): number | undefined {
  const libc = loadedLibc();
  return typeof libc === "string" ? undefined : target.acknowledged?.(libc);
}

/** An end of a connection as runtimes name it. */
interface End {
  readonly hostname?: string;
  readonly port?: number;
}

/**
 * Looks at a connection by its addresses, also under TLS and while its runtime is writing. For a look two equal
 * addresses are proof enough; nothing is ever sent here.
 */
export class ConnectionView {
  /** The search is for the first look alone. */
  #fd = -1;
  #cookie = 0n;

  acknowledged(libc: Libc, local: End, remote: End): number | undefined {
    if (this.#cookie === 0n || libc.cookie(this.#fd) !== this.#cookie) {
      const connection = parseConnection(libc, local, remote);
      this.#fd = (connection && findConnection(libc, connection)) ?? -1;
      this.#cookie = libc.cookie(this.#fd);
    }
    return libc.tcp(this.#fd)?.acked;
  }
}
