import { descriptorsLeft } from "./descriptors_left.ts";
import type { Warnings } from "./warnings.ts";

/** Limits on the number of open connections. */
export interface ConnectionLimitOptions {
  /** The most connections at once, a whole number from 1. @default as many as descriptors allow */
  readonly maxConnections?: number;
  /**
   * The most connections at once from one client address, a whole number from 1. All clients behind one proxy or NAT
   * share an address. @default no limit
   */
  readonly maxConnectionsPerAddress?: number;
}

/** The members of a connection that the limits use. */
export interface LimitedConnection {
  /** The client's address. */
  readonly client: string | undefined;
  /** Whether a part of a request has arrived, but not all of it. */
  readonly isReading: boolean;
  /** Whole seconds without any activity. */
  readonly seconds: number;
  close(): void;
}

/** Which limit is reached. */
type Limit = "descriptors" | "connections" | "address";

/**
 * Descriptors that we keep free by closing idle connections when a new one arrives: a quarter of those free at the
 * start, within these bounds. So opening a file rarely has to close an idle connection first.
 */
const RESERVE = { least: 16, most: 64 };

/**
 * Descriptors that files must leave free: for new connections until they are closed, and for the poller (four on Bun,
 * measured).
 */
const FILE_RESERVE = 12;

/**
 * Descriptors that always stay free. If accept(2) itself fails with EMFILE, Bun retries in a busy loop and reports
 * nothing.
 */
const LAST_RESERVE = 4;

/** The most connections above a limit that may wait for their 503 at once. */
const MAX_EXCESS = 8;

/** Seconds after which a connection above a limit is closed if no request arrives. */
const EXCESS_SECONDS = 5;

/** Seconds without a byte after which an incomplete request counts as stalled. */
const STALLED_SECONDS = 1;

/**
 * Decides which connections are closed at a limit (`maxConnections`, the limit of one address, or the process's
 * descriptors). To make room for a new connection we close the one that has waited longest for a request, or else one
 * whose request has stalled. If none can be closed, the new connection's request gets 503 and the new connection is
 * closed. A request or response under way is never ended.
 */
export class ConnectionLimits {
  readonly #options: ConnectionLimitOptions;
  readonly #warnings: Warnings;
  readonly #measure: (estimate: number) => number;
  readonly #admitted = new Set<LimitedConnection>();
  /** Admitted connections that wait for a request or for the client to close, longest waiting first. */
  readonly #idle = new Set<LimitedConnection>();
  /**
   * Admitted connections of each address, in the order in which they became idle. Empty without a limit per address.
   */
  readonly #byAddress = new Map<string, Set<LimitedConnection>>();
  /** Connections above `maxConnections` or the limit of one address, oldest first. */
  readonly #excess = new Set<LimitedConnection>();
  /** Free descriptors at the last measurement. */
  #left = Infinity;
  readonly #reserve: number;

  /** Throws `RangeError`. `measure`: returns the number of free descriptors. */
  constructor(options: ConnectionLimitOptions, warnings: Warnings, measure = descriptorsLeft) {
    for (const name of ["maxConnections", "maxConnectionsPerAddress"] as const) {
      const value = options[name];
      if (value !== undefined && !(Number.isSafeInteger(value) && value > 0)) {
        throw new RangeError(`${name} must be a whole number from 1, not ${value}`);
      }
    }
    this.#options = options;
    this.#warnings = warnings;
    this.#measure = measure;
    this.#look();
    this.#reserve = Math.min(RESERVE.most, Math.max(RESERVE.least, Math.floor(this.#left / 4)));
  }

  /** Closes connections above a limit that send no request. Call it once a second. */
  tick(): void {
    for (const connection of this.#excess) {
      if (connection.seconds >= EXCESS_SECONDS) connection.close();
    }
  }

  /** Registers a new connection. True: closed another connection or this one because descriptors are running out. */
  enter(connection: LimitedConnection): boolean {
    this.#look();
    if (this.#hasRoomFor(connection.client)) this.#admit(connection);
    else this.#exceed(connection);
    // New clients need a moment to send their request, so a few idle connections are left alone.
    const isCrowded = this.#left < this.#reserve && this.#idle.size > MAX_EXCESS;
    if (!isCrowded && this.#left >= LAST_RESERVE) return false;
    if (!this.freeDescriptor()) connection.close();
    return true;
  }

  /** Call it when a connection has ended. */
  leave(connection: LimitedConnection): void {
    this.#excess.delete(connection);
    if (!this.#admitted.delete(connection)) return;
    this.#idle.delete(connection);
    const { client } = connection;
    const ofAddress = client === undefined ? undefined : this.#byAddress.get(client);
    if (ofAddress?.delete(connection) && ofAddress.size === 0) this.#byAddress.delete(client!);
  }

  /** Records whether a connection may be closed to make room for another one. */
  setIdle(connection: LimitedConnection, idle: boolean): void {
    if (!idle) this.#idle.delete(connection);
    else if (this.#admitted.has(connection)) {
      this.#idle.add(connection);
      const ofAddress = this.#byAddress.size > 0 ? this.#byAddress.get(connection.client!) : undefined;
      if (ofAddress?.delete(connection)) ofAddress.add(connection);
    }
  }

  /**
   * Whether a request of this connection may be answered: the connection was within the limits when it arrived, or is
   * now.
   */
  admits(connection: LimitedConnection): boolean {
    if (!this.#excess.has(connection)) return true;
    if (!this.#hasRoomFor(connection.client)) return false;
    this.#excess.delete(connection);
    this.#admit(connection);
    this.#idle.delete(connection); // its request has arrived
    return true;
  }

  /** Whether enough descriptors are left after a file was opened. Closes idle connections if that helps. */
  affordsFile(): boolean {
    // Each connection has at most one file open. If more descriptors than that are left, we need not measure.
    if (this.#left - this.#admitted.size >= FILE_RESERVE) return true;
    this.#look();
    for (; this.#left < FILE_RESERVE; this.#left++) if (!this.freeDescriptor()) return false;
    return true;
  }

  /** Closes an idle connection because descriptors have (nearly) run out; false: there is none. */
  freeDescriptor(): boolean {
    return this.#makeRoom("descriptors", this.#idle);
  }

  /** As {@link freeDescriptor}, but frees several, because files need some too. For when accept has failed. */
  freeReserve(): boolean {
    let freed = 0;
    while (freed < FILE_RESERVE && this.freeDescriptor()) freed++;
    return freed > 0;
  }

  #look(): void {
    const busy = this.#admitted.size - this.#idle.size;
    this.#left = this.#measure(this.#admitted.size + this.#excess.size + busy);
  }

  #admit(connection: LimitedConnection): void {
    this.#admitted.add(connection);
    this.#idle.add(connection);
    const { client } = connection;
    if (this.#options.maxConnectionsPerAddress === undefined || client === undefined) return;
    const ofAddress = this.#byAddress.get(client);
    if (ofAddress) ofAddress.add(connection);
    else this.#byAddress.set(client, new Set([connection]));
  }

  #exceed(connection: LimitedConnection): void {
    this.#excess.add(connection);
    if (this.#excess.size <= MAX_EXCESS) return;
    const [oldest] = this.#excess;
    this.#excess.delete(oldest);
    oldest.close();
  }

  /** Whether the limits allow one more connection of this client, if necessary after closing another. */
  #hasRoomFor(client: string | undefined): boolean {
    const { maxConnections = Infinity, maxConnectionsPerAddress = Infinity } = this.#options;
    const ofAddress = client === undefined ? undefined : this.#byAddress.get(client);
    if (ofAddress && ofAddress.size >= maxConnectionsPerAddress) {
      return this.#makeRoom("address", ofAddress, client);
    }
    return this.#admitted.size < maxConnections || this.#makeRoom("connections", this.#idle);
  }

  #makeRoom(limit: Limit, candidates: Iterable<LimitedConnection>, client?: string): boolean {
    this.#warn(limit, client);
    const victim = this.#victim(candidates);
    if (victim === undefined) return false;
    this.leave(victim);
    victim.close();
    return true;
  }

  #victim(candidates: Iterable<LimitedConnection>): LimitedConnection | undefined {
    let stalled: LimitedConnection | undefined;
    for (const connection of candidates) {
      if (!this.#idle.has(connection)) continue;
      if (!connection.isReading) return connection;
      if (connection.seconds >= STALLED_SECONDS) stalled ??= connection;
    }
    return stalled;
  }

  #warn(limit: Limit, client: string | undefined): void {
    const { maxConnections, maxConnectionsPerAddress } = this.#options;
    const what = {
      descriptors: `descriptors (ulimit -n), with ${this.#admitted.size} connections`,
      connections: `${maxConnections} connections`,
      address: `${maxConnectionsPerAddress} connections of ${client}`,
    }[limit];
    this.#warnings.warn(
      limit,
      `at the limit of ${what}: idle connections are closed; if none is idle, clients get 503`,
    );
  }
}
