import { OWN_SERVER } from "../http/keep_file.ts";
import type { HandedOver } from "./connection.ts";
import type { ServeAddr, ServeHandler, ServeHandlerInfo } from "./serve_types.ts";
import { Warnings } from "./warnings.ts";
import type { Transport } from "./transport.ts";
import { isGranted, sleep } from "../runtime.ts";

/**
 * Buffer sizes in bytes: FEW for quiet connections such as WebSockets, of which there may be thousands; MANY for
 * bodies.
 */
const FEW = 2 * 1024;
const MANY = 64 * 1024;

/** One connection between a client and the inner server. */
interface Tunnel {
  readonly inner: Deno.TcpConn;
  readonly client: ServeAddr;
  /** Resolves when the inner server has accepted the connection. */
  readonly taken: Promise<void>;
  show(): void;
}

/**
 * The runtime's own server behind ours, for everything that ours does not support: such connections are tunneled to
 * it byte for byte.
 *
 * It listens on loopback, where any process of the machine can connect. It answers only connections from our tunnels:
 * it recognizes them by their port, and no other connection can have the port of an open one.
 */
export class Tunnels {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #abort = new AbortController();
  readonly #tunnels = new Map<number, Tunnel>();
  /** The number of tunnels whose port is not known yet. */
  #connecting = 0;
  #keepsAlive = true;
  readonly #warnings = new Warnings((line) => console.error(line));

  constructor(handler: ServeHandler, onError: (error: unknown) => Response | Promise<Response>) {
    this.#server = Deno.serve({
      hostname: LOOPBACK,
      port: 0,
      signal: this.#abort.signal,
      onListen() {},
      onError,
    }, (request, info) => {
      const { hostname, port } = info.remoteAddr;
      const tunnel = hostname === LOOPBACK ? this.#tunnels.get(port) : undefined;
      if (!tunnel) return new Response(null, { status: 403, headers: { connection: "close" } });
      tunnel.show();
      return handler(request, new TunnelInfo(tunnel.client, info));
    });
    this.#server.unref(); // the client connections keep the process running
  }

  /** Forwards all bytes in both directions until the connection ends. */
  async run(connection: HandedOver): Promise<void> {
    const inner = await this.#connect();
    if (!inner) return await refuse(connection);
    const { port } = inner.localAddr as Deno.NetAddr;
    let show = () => {};
    const taken = new Promise<void>((resolve) => show = resolve);
    const client = clientOf(connection.transport);
    this.#tunnels.set(port, { inner, client, taken, show });
    const end = () => close(inner);
    connection.closed.addEventListener("abort", end, { once: true });
    try {
      if (connection.closed.aborted) return;
      const up = pass((into) => connection.read(into), (bytes) => writeAll(inner, bytes));
      const upwards = up.then(() => inner.closeWrite()).catch(
        () => {/* the connection has ended, which the other direction reports */},
      );
      await pass(async (into) => {
        const bytes = await inner.read(into) ?? 0;
        show();
        return bytes;
      }, (bytes) => connection.write(bytes));
      connection.finish();
      await upwards;
      // Read what the client still sends: closing with unread bytes would reset the connection and lose the response.
      await pass((into) => connection.read(into), () => Promise.resolve());
    } catch {
      // One of the two connections has ended, so the other is closed.
    } finally {
      show();
      connection.closed.removeEventListener("abort", end);
      this.#tunnels.delete(port);
      close(inner);
    }
  }

  /** Undefined if no connection can be made: descriptors have run out, or the server is stopping. */
  async #connect(): Promise<Deno.TcpConn | undefined> {
    this.#connecting++;
    try {
      const inner = await Deno.connect({ hostname: LOOPBACK, port: this.#server.addr.port });
      inner.setNoDelay();
      if (!this.#keepsAlive) inner.unref();
      return inner;
    } catch (error) {
      const { code, name, message } = error as Error & { code?: string };
      const kind = code ?? name;
      this.#warnings.warn(kind, `a request could not be handed to Deno.serve: ${kind}: ${message}`);
      return undefined;
    } finally {
      this.#connecting--;
    }
  }

  /** Stops accepting connections, and resolves when every request under way has been answered. */
  async stop(): Promise<void> {
    // Closing the listener would reset connections that the server has not accepted yet.
    while (this.#connecting > 0) await sleep(1);
    await Promise.all([...this.#tunnels.values()].map(({ taken }) => taken));
    await this.#server.shutdown();
  }

  /** Sets whether the connections to the inner server keep the process running; they do by default. */
  keepAlive(on: boolean): void {
    this.#keepsAlive = on;
    for (const { inner } of this.#tunnels.values()) on ? inner.ref() : inner.unref();
  }

  /** Ends everything at once. */
  close(): void {
    this.#abort.abort();
  }
}

const LOOPBACK = "127.0.0.1";

/**
 * The reason why there can be no inner server: a missing permission, which we do not request. Undefined if there can
 * be one.
 */
export function whyNoTunnels(): string | undefined {
  if (isGranted({ name: "net", host: LOOPBACK })) return undefined;
  return `no permission to connect to ${LOOPBACK}: run with --allow-net`;
}

/** The client's address, which Deno knows from accepting the connection. */
export function clientOf({ socket }: Transport): ServeAddr {
  return (socket as Deno.TcpConn).remoteAddr as ServeAddr;
}

class TunnelInfo implements ServeHandlerInfo {
  readonly [OWN_SERVER] = true;
  readonly remoteAddr: ServeAddr;
  readonly #inner: Deno.ServeHandlerInfo;

  constructor(client: ServeAddr, inner: Deno.ServeHandlerInfo) {
    this.remoteAddr = client;
    this.#inner = inner;
  }

  get completed(): Promise<void> {
    return this.#inner.completed;
  }
}

/** Forwards what `read` returns, until the end. */
async function pass(
  read: (into: Uint8Array) => Promise<number>,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  let buffer = new Uint8Array(FEW);
  for (let bytes; (bytes = await read(buffer)) > 0;) {
    await write(buffer.subarray(0, bytes));
    if (bytes === buffer.length) buffer = new Uint8Array(MANY);
    else if (bytes < FEW && buffer.length > FEW) buffer = new Uint8Array(FEW);
  }
}

/** Answers 503. Reads what the client has sent, because otherwise the connection would be reset. */
async function refuse(connection: HandedOver): Promise<void> {
  try {
    await connection.write(UNAVAILABLE);
    connection.finish();
    await pass((into) => connection.read(into), () => Promise.resolve());
  } catch {
    // the connection has already ended
  }
}

const UNAVAILABLE = new TextEncoder().encode(
  "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
);

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

function close(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch {
    // it is closed already
  }
}
