import { descriptorsLeft } from "./descriptors_left.ts";
import type { Warnings } from "./warnings.ts";

/** How many connections may be open. */
export interface ConnectionLimitOptions {
  /** Connections at once, a whole number from 1. @default as many as descriptors allow */
  readonly maxConnections?: number;
  /**
   * Connections at once of one client address, a whole number from 1. All clients behind one proxy or NAT have one
   * address. @default no limit
   */
  readonly maxConnectionsPerAddress?: number;
}

/** A connection, as far as the limits look at it. */
export interface LimitedConnection {
  /** The client's address. */
  readonly client: string | undefined;
  /** Whether some of a request has come, and not all of it. */
  readonly isReading: boolean;
  /** Whole seconds for which nothing has happened to it. */
  readonly seconds: number;
  close(): void;
}

/** Which limit is reached. */
type Limit = "descriptors" | "connections" | "address";

/**
 * Descriptors that connections leave where others are idle: a quarter of what there is at first, within these bounds.
 * So files seldom have to wait for an idle connection to be closed.
 */
const RESERVE = { least: 16, most: 64 };

/** Descriptors that files leave: for connections until they are closed, and for the poller (four on Bun, measured). */
const FILE_RESERVE = 12;

/**
 * Descriptors that are never used up. Where accept(2) itself fails with EMFILE, Bun tries again without a pause, and
 * tells nobody.
 */
const LAST_RESERVE = 4;

/** Connections above a limit that may wait for their 503 at once. */
const MAX_EXCESS = 8;

/** Seconds after which a connection above a limit is closed without a request. */
const EXCESS_SECONDS = 5;

/** Seconds without a byte after which a request that has begun is no longer under way. */
const STALLED_SECONDS = 1;

/**
 * Who stays where there is room for no more. At a limit (`maxConnections`, one address's, or the process's descriptors)
 * the connection that has waited longest for a request makes room for the new one, and where none waits, one that has
 * begun a request and sends no more of it. Where none can be closed, the new one's request gets 503, and ends it. Nothing
 * that is under way is ended.
 */
export class ConnectionLimits {
  readonly #options: ConnectionLimitOptions;
  readonly #warnings: Warnings;
  readonly #measure: (estimate: number) => number;
  readonly #admitted = new Set<LimitedConnection>();
  /** Those admitted that wait for a request, or for a client's end; the longest wait first. */
  readonly #idle = new Set<LimitedConnection>();
  /** Those admitted of each address, in the order in which they have become idle. Empty without a limit for it. */
  readonly #byAddress = new Map<string, Set<LimitedConnection>>();
  /** Those above `maxConnections` or one address's limit, the oldest first. */
  readonly #excess = new Set<LimitedConnection>();
  /** Descriptors left when it was measured last. */
  #left = Infinity;
  readonly #reserve: number;

  /** Throws `RangeError`. `measure`: gives the descriptors that are left. */
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

  /** To be called once a second: closes those above a limit that ask for nothing. */
  tick(): void {
    for (const connection of this.#excess) {
      if (connection.seconds >= EXCESS_SECONDS) connection.close();
    }
  }

  /** Takes a new connection in; true: it has closed another one or this one, as descriptors are running out. */
  enter(connection: LimitedConnection): boolean {
    this.#look();
    if (this.#hasRoomFor(connection.client)) this.#admit(connection);
    else this.#exceed(connection);
    // Clients that have just come need a moment to send their request.
    const isCrowded = this.#left < this.#reserve && this.#idle.size > MAX_EXCESS;
    if (!isCrowded && this.#left >= LAST_RESERVE) return false;
    if (!this.freeDescriptor()) connection.close();
    return true;
  }

  /** To be called once a connection is over. */
  leave(connection: LimitedConnection): void {
    this.#excess.delete(connection);
    if (!this.#admitted.delete(connection)) return;
    this.#idle.delete(connection);
    const { client } = connection;
    const ofAddress = client === undefined ? undefined : this.#byAddress.get(client);
    if (ofAddress?.delete(connection) && ofAddress.size === 0) this.#byAddress.delete(client!);
  }

  /** Takes note whether a connection may be closed for another one's sake. */
  setIdle(connection: LimitedConnection, idle: boolean): void {
    if (!idle) this.#idle.delete(connection);
    else if (this.#admitted.has(connection)) {
      this.#idle.add(connection);
      const ofAddress = this.#byAddress.size > 0 ? this.#byAddress.get(connection.client!) : undefined;
      if (ofAddress?.delete(connection)) ofAddress.add(connection);
    }
  }

  /** Whether a request of this connection may be answered: it is within the limits, or is by now. */
  admits(connection: LimitedConnection): boolean {
    if (!this.#excess.has(connection)) return true;
    if (!this.#hasRoomFor(connection.client)) return false;
    this.#excess.delete(connection);
    this.#admit(connection);
    this.#idle.delete(connection); // its request has come
    return true;
  }

  /** Whether a file that was just opened leaves enough descriptors, perhaps as idle connections make room for it. */
  affordsFile(): boolean {
    // Each connection has one file open at most: with more left than that it need not be measured.
    if (this.#left - this.#admitted.size >= FILE_RESERVE) return true;
    this.#look();
    for (; this.#left < FILE_RESERVE; this.#left++) if (!this.freeDescriptor()) return false;
    return true;
  }

  /** Closes a connection that waits for a request, as descriptors have run out or nearly so; false: there is none. */
  freeDescriptor(): boolean {
    return this.#makeRoom("descriptors", this.#idle);
  }

  /** As {@link freeDescriptor}, where not even a connection could be accepted: files need some, too. */
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

  /** Whether one more connection of the client is within the limits, perhaps in another one's place. */
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
      `at the limit of ${what}: idle connections are closed, and clients get 503 where none is idle`,
    );
  }
}
