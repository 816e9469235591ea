import { findConnection, parseConnection } from "../ffi/find.ts";
import type { Libc } from "../ffi/libc.ts";
import { libc as loadedLibc } from "../ffi/load.ts";
import type { SocketAdapter } from "./adapter.ts";
import { FoundDescriptor } from "./found_descriptor.ts";

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
  #found: FoundDescriptor | undefined;

  acknowledged(libc: Libc, local: End, remote: End): number | undefined {
    if (!this.#found?.isSame(libc)) {
      const connection = parseConnection(libc, local, remote);
      const fd = connection && findConnection(libc, connection);
      this.#found = fd === undefined ? undefined : new FoundDescriptor(libc, fd);
    }
    return this.#found && libc.tcp(this.#found.fd)?.acked;
  }
}
