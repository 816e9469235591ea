import type { SendfileSocket } from "../sockets/mod.ts";

/** A connection that a runtime has accepted. The receiver closes it. */
export interface Transport {
  /** The socket to send on. */
  readonly socket: SendfileSocket;
  /** The client's address. */
  readonly client: string | undefined;
  /** Called when the connection ends without our close(): pending writes will never complete. */
  gone?: () => void;
  /** Reads some bytes; 0: the client has half-closed, or the connection has ended. One call at a time. */
  read(into: Uint8Array): Promise<number>;
  /**
   * Sends what can be sent without waiting; returns the number of bytes. Present if it is cheaper than the runtime's
   * own write.
   */
  send?(bytes: Uint8Array): number;
  /** Sets whether the connection keeps the process running; it does by default. Present if the runtime allows it. */
  keepAlive?(on: boolean): void;
  /** Half-closes our side after everything was sent. */
  finish(): void;
  /** Closes the connection; a pending `read` returns 0. */
  close(): void;
}

/** A certificate and its private key, as PEM. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
}

/** A TCP port to listen on. */
export interface TcpPlace {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Whether other processes may listen there as well (SO_REUSEPORT; in Deno only with --unstable-net). */
  readonly shared: boolean;
  /** If present, the runtime encrypts with TLS, so that files are copied. */
  readonly tls?: TlsIdentity;
}

/** A unix socket to listen on. */
export interface UnixPlace {
  readonly path: string;
}

/** Where a server listens. */
export type Place = TcpPlace | UnixPlace;

export interface Listener {
  /** 0 for a unix socket. */
  readonly port: number;
  /** The address it listens on; "" for a unix socket. */
  readonly host: string;
  /** Sets whether listening keeps the process running; it does by default. Present if the runtime allows it. */
  keepAlive?(on: boolean): void;
  /** Stops accepting connections; accepted ones continue. */
  close(): void;
}

/**
 * Listens, and calls `accept` with each connection. Throws the runtime's error. `failed` is called for each
 * connection that could not be accepted. Both return whether they closed a connection because descriptors are running
 * out.
 */
export type Listen = (
  place: Place,
  accept: (transport: Transport) => boolean,
  failed?: (error: unknown) => boolean,
) => Listener;
