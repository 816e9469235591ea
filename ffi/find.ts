import { type FileId, isSameFile } from "./file_id.ts";
import type { Endpoint, Libc } from "./libc.ts";
import { NOT_FOUND, SEVERAL_CONNECTIONS, TOO_MANY_DESCRIPTORS } from "../reasons.ts";

/** Both ends of a connection. */
export interface Connection {
  readonly local: Endpoint;
  readonly remote: Endpoint;
}

/** The connection between two ends as runtimes name them; undefined where an end has no IP address. */
export function parseConnection(
  libc: Libc,
  local: { hostname?: string; port?: number },
  remote: { hostname?: string; port?: number },
): Connection | undefined {
  const here = libc.parseEndpoint(local.hostname ?? "", local.port ?? 0);
  const there = libc.parseEndpoint(remote.hostname ?? "", remote.port ?? 0);
  return here && there && { local: here, remote: there };
}

/** Whether `fd` is a socket between these two ends. */
export function isConnection(libc: Libc, fd: number, { local, remote }: Connection): boolean {
  return libc.hasEndpoint(fd, "remote", remote) && libc.hasEndpoint(fd, "local", local);
}

/**
 * The one socket that matches; undefined where there is none. "several" where there are more, "many" where more than
 * `budget` descriptors are open.
 */
function findSocket(
  libc: Libc,
  matches: (fd: number) => boolean,
  budget = Infinity,
): number | "several" | "many" | undefined {
  const limit = libc.descriptorLimit();
  // The table never shrinks; a number that is not open costs less, but not nothing.
  if (limit > budget * CLOSED) return "many";
  let found: number | undefined;
  let several = false;
  let open = 0;
  libc.eachOpen(limit, (fd) => {
    if (matches(fd)) {
      if (found === undefined) found = fd;
      else several = libc.cookie(fd) === 0n || libc.cookie(fd) !== libc.cookie(found); // no duplicates of one
    }
    return !several && ++open <= budget;
  });
  if (several) return "several";
  return open > budget ? "many" : found;
}

/** Numbers that are not open cost as much to look at as one that is. */
const CLOSED = 16;

/**
 * The descriptor of a connection that its runtime does not tell, found among the process's own by both addresses.
 * Two descriptors of one socket (duplicates, told by the socket cookie) are one match; two sockets are no match.
 */
export function findConnection(libc: Libc, connection: Connection): number | undefined {
  const found = findSocket(libc, (fd) => isConnection(libc, fd, connection));
  return typeof found === "number" ? found : undefined;
}

/**
 * The descriptor of the one socket whose peer is `remote`, or in words why none is known to be it. At most `budget`
 * open descriptors are looked at.
 */
export function findPeer(libc: Libc, remote: Endpoint, budget: number): number | string {
  const found = findSocket(libc, (fd) => libc.hasEndpoint(fd, "remote", remote), budget);
  if (found === "several") return SEVERAL_CONNECTIONS;
  if (found === "many") return TOO_MANY_DESCRIPTORS;
  return found ?? NOT_FOUND;
}

/**
 * A descriptor that reads the file `id`, found among the process's own. Any of several will do: they read the same
 * bytes, and this package never uses a descriptor's own position. It may be another thread's, which can close it at any
 * moment: use only a duplicate that {@link isFile} has been asked about.
 */
export function findFile(libc: Libc, id: FileId): number | undefined {
  let found: number | undefined;
  libc.eachOpen(libc.descriptorLimit(), (fd) => {
    if (isFile(libc, fd, id) && libc.isReadable(fd)) found = fd;
    return found === undefined;
  });
  return found;
}

/** Whether `fd` stands for the regular file `id`. */
export function isFile(libc: Libc, fd: number, id: FileId): boolean {
  const stat = libc.stat(fd);
  return typeof stat === "object" && stat.regular && isSameFile(stat, id);
}
