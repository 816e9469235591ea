import { checkDescriptor } from "../ffi/descriptor.ts";
import { BunSocket, type BunSocketLike, isBunSocket } from "./bun_socket.ts";
import { DenoConn, isDenoConn } from "./deno_conn.ts";
import { DescriptorSocket } from "./raw_fd.ts";
import { isNodeSocket, isOldBunHttp, NodeSocket, type NodeSocketLike } from "./node_socket.ts";
import type { SocketAdapter } from "./adapter.ts";
import type { DenoConnLike } from "../types.ts";

/**
 * A socket that {@link sendfile} sends to: a `Deno.Conn` (TCP, unix, TLS), a socket of `Bun.listen` or `Bun.connect`, a
 * node:net or node:tls Socket, the socket of a node:http request, or the descriptor number of a non-blocking stream
 * socket.
 */
export type SendfileSocket = DenoConnLike | BunSocketLike | NodeSocketLike | number;

/** One adapter for each socket, because it caches the descriptor. */
const targets = new WeakMap<object, SocketAdapter>();

/** Returns the adapter of a socket. Throws `TypeError` or `RangeError`; makes no system call. */
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

/** Whether the socket belongs to node:http2, which exposes a proxy whose `write` throws when it is read. */
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
      throw new TypeError("socket belongs to an HTTP/2 session, and only the session may write to it");
    }
    if (isOldBunHttp(socket)) {
      throw new TypeError(
        "socket belongs to node:http of Bun before 1.4, which writes nothing to it: use sendFile of ./node",
      );
    }
    return new NodeSocket(socket);
  }
  if (isBunSocket(socket)) return new BunSocket(socket);
  throw new TypeError(
    "socket must be a connected stream socket (not a datagram socket, listener or response)",
  );
}
