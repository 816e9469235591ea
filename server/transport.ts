import type { SendfileSocket } from "../sockets/mod.ts";

/** A connection that a runtime has accepted. Whoever gets it closes it. */
export interface Transport {
  /** What is sent to. */
  readonly socket: SendfileSocket;
  /** The client's address. */
  readonly client: string | undefined;
  /** Called where the connection is over without our doing: what waits to write waits in vain. */
  gone?: () => void;
  /** Reads some bytes; 0: the client has ended its side, or the connection is over. One at a time. */
  read(into: Uint8Array): Promise<number>;
  /**
   * Sends what can be sent without a wait; gives how many bytes that were. Present where it is cheaper than the
   * runtime's own write.
   */
  send?(bytes: Uint8Array): number;
  /** Whether the connection keeps the process running, which it does at first. Present where that can be chosen. */
  keepAlive?(on: boolean): void;
  /** Ends our side, behind all that was sent. */
  finish(): void;
  /** Ends both; a `read` under way gives 0. */
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
  /** 0: any that is free. */
  readonly port: number;
  /** Whether other processes may listen there as well (SO_REUSEPORT; in Deno only with --unstable-net). */
  readonly shared: boolean;
  /** The server speaks TLS: the runtime's, so that files are copied. */
  readonly tls?: TlsIdentity;
}

/** A unix socket to listen on. */
export interface UnixPlace {
  readonly path: string;
}

/** Where a server listens. */
export type Place = TcpPlace | UnixPlace;

export interface Listener {
  /** 0: there is none, of a unix socket. */
  readonly port: number;
  /** The address it listens on; "" for a unix socket. */
  readonly host: string;
  /** Whether listening keeps the process running, which it does at first. Present where that can be chosen. */
  keepAlive?(on: boolean): void;
  /** Takes no more connections; those that were taken go on. */
  close(): void;
}

/**
 * Listens, and hands over each connection. Throws the runtime's error. `failed` is told of each connection that could
 * not be accepted. Both say whether they have closed a connection because descriptors are running out.
 */
export type Listen = (
  place: Place,
  accept: (transport: Transport) => boolean,
  failed?: (error: unknown) => boolean,
) => Listener;
