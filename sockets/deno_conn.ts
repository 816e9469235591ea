import { socketClosed } from "../errors.ts";
import { type Connection, findConnection, isConnection, parseConnection } from "../ffi/find.ts";
import type { Libc } from "../ffi/libc.ts";
import { ConnectionView } from "./acknowledged.ts";
import type { DenoConnLike } from "../types.ts";
import type { Descriptor, SocketAdapter } from "./adapter.ts";
import { FoundDescriptor } from "./found_descriptor.ts";
import { FOUND_ANOTHER, NOT_FOUND_ALONE, NOT_IP, TLS, UNIX_SOCKET } from "../reasons.ts";

/** Whether `socket` is a `Deno.Conn`. Checks its members, because other runtimes have no such class. */
export function isDenoConn(socket: object): socket is DenoConnLike {
  return "localAddr" in socket && "remoteAddr" in socket && "read" in socket && "closeWrite" in socket;
}

/** Accepted TCP connections carry their descriptor under this symbol since Deno 2.3. The symbol is not public. */
export function internalDescriptor(conn: object): number | undefined {
  for (const symbol of Object.getOwnPropertySymbols(conn)) {
    if (symbol.description === "Deno.internal.fd") {
      const fd = (conn as Record<symbol, unknown>)[symbol];
      return typeof fd === "number" ? fd : undefined;
    }
  }
  return undefined;
}

/** `Deno.Conn`: TCP by sendfile(2), TLS and unix sockets by the runtime. */
export class DenoConn implements SocketAdapter {
  readonly #conn: DenoConnLike;
  /** The descriptor found earlier, and the libc that found it. */
  #known: { readonly libc: Libc; readonly descriptor: Descriptor } | undefined;
  #view: ConnectionView | undefined;

  constructor(conn: DenoConnLike) {
    this.#conn = conn;
  }

  open(libc: Libc, held = false): Descriptor | string {
    const known = this.#known;
    // With `held` we skip the check, which takes three system calls.
    if (known?.libc === libc && (held || known.descriptor.alive(known.descriptor.fd))) {
      return known.descriptor;
    }
    this.#known = undefined;
    if ("handshake" in this.#conn) return TLS;
    const local = this.#conn.localAddr;
    const remote = this.#conn.remoteAddr;
    if (local.transport !== "tcp" || remote.transport !== "tcp") {
      return UNIX_SOCKET;
    }
    const ends = parseConnection(libc, local, remote);
    if (!ends) return NOT_IP;
    const told = internalDescriptor(this.#conn);
    const fd = told === undefined
      ? findConnection(libc, ends)
      : isConnection(libc, told, ends)
      ? told
      : undefined;
    if (fd === undefined) return NOT_FOUND_ALONE;
    if (!this.#leadsTo(libc, fd)) return FOUND_ANOTHER;
    const descriptor = this.#descriptor(libc, fd, ends);
    this.#known = { libc, descriptor };
    return descriptor;
  }

  #descriptor(libc: Libc, fd: number, ends: Connection): Descriptor {
    const found = new FoundDescriptor(libc, fd, () => isConnection(libc, fd, ends));
    return { fd, owned: false, alive: () => found.isSame(libc) && this.#isOpen(libc, fd) };
  }

  /**
   * Whether Deno still has the connection open. A closed conn keeps its descriptor number and addresses, which may by
   * now belong to a new connection if a client reconnects from the same port. On a closed conn every call throws
   * `BadResource`; setting TCP_NODELAY to its present value changes nothing.
   */
  #isOpen(libc: Libc, fd: number): boolean {
    return this.#setNoDelay(libc.noDelay(fd) ?? false);
  }

  #setNoDelay(on: boolean): boolean {
    try {
      this.#conn.setNoDelay!(on);
      return true;
    } catch (error) {
      return (error as Error).name !== "BadResource"; // Busy: a read and a write are pending
    }
  }

  /** Whether `fd` is the conn's own socket: if Deno changes TCP_NODELAY on the conn, `fd` must show the change. */
  #leadsTo(libc: Libc, fd: number): boolean {
    const before = libc.noDelay(fd);
    if (before === undefined) return false;
    if (!this.#setNoDelay(!before)) throw socketClosed();
    const changed = libc.noDelay(fd) === !before;
    this.#setNoDelay(before);
    return changed;
  }

  acknowledged(libc: Libc): number | undefined {
    const { localAddr, remoteAddr } = this.#conn;
    if (localAddr.transport !== "tcp" || remoteAddr.transport !== "tcp") return undefined;
    return (this.#view ??= new ConnectionView()).acknowledged(libc, localAddr, remoteAddr);
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#conn.write(bytes);
  }

  abandon(): void {
    this.#conn.closeWrite().catch(() => {/* the connection has already ended */});
  }
}
