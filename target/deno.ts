import { findConnection, isConnection, parseConnection } from "../ffi/find.ts";
import type { Libc } from "../ffi/libc.ts";
import type { Descriptor, Target } from "./target.ts";

/** Whether `socket` is a `Deno.Conn`, by its shape: other runtimes have no class to compare with. */
export function isDenoConn(socket: object): socket is Deno.Conn {
  return "localAddr" in socket && "remoteAddr" in socket && "read" in socket && "closeWrite" in socket;
}

/** Accepted TCP connections have carried their descriptor under this symbol since Deno 2.3. It is not public. */
function internalDescriptor(conn: object): number | undefined {
  for (const symbol of Object.getOwnPropertySymbols(conn)) {
    if (symbol.description === "Deno.internal.fd") {
      const fd = (conn as Record<symbol, unknown>)[symbol];
      return typeof fd === "number" ? fd : undefined;
    }
  }
  return undefined;
}

/** `Deno.Conn`: TCP natively, TLS and unix sockets by the runtime. */
export class DenoConn implements Target, Descriptor {
  readonly #conn: Deno.Conn;
  readonly owned = false;
  fd = -1;
  #libc: Libc | undefined;
  #cookie = 0n;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
  }

  open(libc: Libc): Descriptor | string {
    // The cookie is the socket's own number: equal, it is the connection that was found before. Closed, or closed
    // and its descriptor handed out again, it is not.
    if (this.#libc === libc && this.alive()) return this;
    if ("handshake" in this.#conn) return "TLS";
    const local = this.#conn.localAddr;
    const remote = this.#conn.remoteAddr;
    if (local.transport !== "tcp" || remote.transport !== "tcp") {
      return "Deno tells no descriptor of a unix socket";
    }
    const ends = parseConnection(libc, local, remote);
    if (!ends) return "its addresses are not IP addresses";
    const told = internalDescriptor(this.#conn);
    const fd = told !== undefined && isConnection(libc, told, ends) ? told : findConnection(libc, ends);
    if (fd === undefined) return "its descriptor was not found, or is not the only one with its addresses";
    this.fd = fd;
    this.#libc = libc;
    this.#cookie = libc.cookie(fd);
    if (this.#cookie === 0n) this.alive = () => isConnection(libc, fd, ends);
    return this;
  }

  alive(): boolean {
    return this.#cookie !== 0n && this.#libc!.cookie(this.fd) === this.#cookie;
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#conn.write(bytes);
  }

  abandon(): void {
    this.#conn.closeWrite().catch(() => {/* already gone, which is what was wanted */});
  }
}
