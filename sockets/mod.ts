import { checkDescriptor } from "../ffi/descriptor.ts";
import { BunSocket, type BunSocketLike, isBunSocket } from "./bun_socket.ts";
import { DenoConn, isDenoConn } from "./deno_conn.ts";
import { DescriptorSocket } from "./raw_fd.ts";
import { isNodeSocket, NodeSocket, type NodeSocketLike } from "./node_socket.ts";
import type { SocketAdapter } from "./adapter.ts";
import type { DenoConnLike } from "../types.ts";

/**
 * What {@link sendfile} sends to: a `Deno.Conn` (TCP, unix, TLS), a socket of `Bun.listen` or `Bun.connect`, a
 * node:net or node:tls Socket or the socket of a node:http request, or the number of a descriptor that is a
 * non-blocking stream socket.
 */
export type SendfileSocket = DenoConnLike | BunSocketLike | NodeSocketLike | number;

/** One for each socket: it remembers the descriptor that was found. */
const targets = new WeakMap<object, SocketAdapter>();

/** The target behind a socket. Throws `TypeError`/`RangeError`; makes no system call. */
export function adapterOf(socket: SendfileSocket): SocketAdapter {
  if (typeof socket === "number") {
    checkDescriptor(socket);
    return new DescriptorSocket(socket);
  }
  if (typeof socket !== "object" || socket === null) {
    throw new TypeError(`socket must be a socket or a descriptor number, not ${String(socket)}`);
  }
  let target = targets.get(socket);
  if (!target) targets.set(socket, target = adapt(socket));
  return target;
}

/** The socket that node:http2 shows is a proxy, which throws where one looks at `write`. */
function isHttp2(socket: NodeSocketLike): boolean {
  try {
    return typeof socket.write !== "function";
  } catch {
    return true;
  }
}

function adapt(socket: object): SocketAdapter {
  if (isDenoConn(socket)) return new DenoConn(socket);
  if (isNodeSocket(socket)) {
    if (isHttp2(socket)) {
      throw new TypeError("socket belongs to an HTTP/2 session, which frames what it sends");
    }
    return new NodeSocket(socket);
  }
  if (isBunSocket(socket)) return new BunSocket(socket);
  throw new TypeError(
    "socket must be a connected stream socket (not a datagram socket, listener or response)",
  );
}
