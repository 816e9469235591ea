import { type FileId, isSameFile } from "./file_id.ts";
import type { Endpoint, Libc } from "./libc.ts";
import { NOT_FOUND, SEVERAL_CONNECTIONS, TOO_MANY_DESCRIPTORS } from "../reasons.ts";

/** Both ends of a connection. */
export interface Connection {
  readonly local: Endpoint;
  readonly remote: Endpoint;
}

/** Parses the two addresses as runtimes give them; undefined if one is not an IP address. */
export function parseConnection(
  libc: Libc,
  local: { hostname?: string; port?: number },
  remote: { hostname?: string; port?: number },
): Connection | undefined {
  const here = libc.parseEndpoint(local.hostname ?? "", local.port ?? 0);
  const there = libc.parseEndpoint(remote.hostname ?? "", remote.port ?? 0);
  return here && there && { local: here, remote: there };
}

/** Whether `fd` is a socket with these two addresses. */
export function isConnection(libc: Libc, fd: number, { local, remote }: Connection): boolean {
  return libc.hasEndpoint(fd, "remote", remote) && libc.hasEndpoint(fd, "local", local);
}

/**
 * The one socket that matches; undefined if none does; "several" if more than one does; "many" if more than `budget`
 * descriptors are open.
 */
function findSocket(
  libc: Libc,
  matches: (fd: number) => boolean,
  budget = Infinity,
): number | "several" | "many" | undefined {
  const limit = libc.descriptorLimit();
  // The descriptor table never shrinks, and checking a number that is not open has a cost, too.
  if (limit > budget * CLOSED) return "many";
  let found: number | undefined;
  let several = false;
  let open = 0;
  libc.eachOpen(limit, (fd) => {
    if (matches(fd)) {
      if (found === undefined) found = fd;
      else several = libc.cookie(fd) === 0n || libc.cookie(fd) !== libc.cookie(found); // not duplicates of one socket
    }
    return !several && ++open <= budget;
  });
  if (several) return "several";
  return open > budget ? "many" : found;
}

/** Checking this many numbers that are not open costs as much as checking one open descriptor. */
const CLOSED = 16;

/**
 * Finds the descriptor of a connection that the runtime does not expose, by both addresses among the descriptors of
 * the process. Two descriptors of one socket (duplicates, recognized by the socket cookie) count as one match; two
 * sockets are no match.
 */
export function findConnection(libc: Libc, connection: Connection): number | undefined {
  const found = findSocket(libc, (fd) => isConnection(libc, fd, connection));
  return typeof found === "number" ? found : undefined;
}

/**
 * The descriptor of the one socket whose peer is `remote`, or the reason why it is not certain. Checks at most
 * `budget` open descriptors.
 */
export function findPeer(libc: Libc, remote: Endpoint, budget: number): number | string {
  const found = findSocket(libc, (fd) => libc.hasEndpoint(fd, "remote", remote), budget);
  if (found === "several") return SEVERAL_CONNECTIONS;
  if (found === "many") return TOO_MANY_DESCRIPTORS;
  return found ?? NOT_FOUND;
}

/**
 * Finds a descriptor of the file `id` among those of the process. Any of several is fine: they read the same bytes,
 * and this package never uses a descriptor's own position. It may belong to another thread, which can close it at any
 * moment: use only a duplicate that {@link readsFile} has confirmed.
 */
export function findFile(libc: Libc, id: FileId): number | undefined {
  let found: number | undefined;
  libc.eachOpen(libc.descriptorLimit(), (fd) => {
    if (readsFile(libc, fd, id)) found = fd;
    return found === undefined;
  });
  return found;
}

/** Whether `fd` refers to the regular file `id`, open for reading. */
export function readsFile(libc: Libc, fd: number, id: FileId): boolean {
  const stat = libc.stat(fd);
  return typeof stat === "object" && stat.regular && isSameFile(stat, id) && libc.isReadable(fd);
}
