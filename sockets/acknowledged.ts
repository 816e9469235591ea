import { findConnection, parseConnection } from "../ffi/find.ts";
import type { Libc } from "../ffi/libc.ts";
import { libc as loadedLibc } from "../ffi/load.ts";
import type { SocketAdapter } from "./adapter.ts";
import { FoundDescriptor } from "./found_descriptor.ts";

/**
 * The number of sent bytes that the peer's system has acknowledged; undefined if that cannot be known: without FFI, on
 * a system other than Linux, for a unix socket, for a closed socket.
 */
export function acknowledgedBy(target: SocketAdapter): number | undefined {
  const libc = loadedLibc();
  return typeof libc === "string" ? undefined : target.acknowledged?.(libc);
}

/** One end of a connection, as runtimes describe it. */
interface End {
  readonly hostname?: string;
  readonly port?: number;
}

/**
 * Finds a connection's descriptor by its addresses, also under TLS and while the runtime is writing. Equal addresses
 * are proof enough to read counters; nothing is ever sent through this descriptor.
 */
export class ConnectionView {
  /** The descriptor found by the first call; later calls search only if it no longer is the same socket. */
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
