import type { Endpoint, Libc } from "./libc.ts";

/** Both ends of a connection. */
export interface Connection {
  readonly local: Endpoint;
  readonly remote: Endpoint;
}

/** The connection between two ends as runtimes name them; undefined where an end has no IP address. */
export function parseConnection(
  libc: Libc,
  local: { hostname: string; port: number },
  remote: { hostname: string; port: number },
): Connection | undefined {
  const here = libc.parseEndpoint(local.hostname, local.port);
  const there = libc.parseEndpoint(remote.hostname, remote.port);
  return here && there && { local: here, remote: there };
}

/** Whether `fd` is a socket between these two ends. */
export function isConnection(libc: Libc, fd: number, { local, remote }: Connection): boolean {
  return libc.hasEndpoint(fd, "remote", remote) && libc.hasEndpoint(fd, "local", local);
}

/** The one socket that matches; undefined where there is none, "several" where there are more. */
function findSocket(
  libc: Libc,
  limit: number,
  matches: (fd: number) => boolean,
): number | "several" | undefined {
  let found: number | undefined;
  let several = false;
  libc.eachOpen(limit, (fd) => {
    if (matches(fd)) {
      if (found === undefined) found = fd;
      else several = libc.cookie(fd) === 0n || libc.cookie(fd) !== libc.cookie(found); // no duplicates of one
    }
    return !several;
  });
  return several ? "several" : found;
}

/**
 * The descriptor of a connection that its runtime does not tell, found among the process's own by both addresses.
 * Two descriptors of one socket (duplicates, told by the socket cookie) are one match; two sockets are no match.
 */
export function findConnection(libc: Libc, connection: Connection): number | undefined {
  const found = findSocket(libc, libc.descriptorLimit(), (fd) => isConnection(libc, fd, connection));
  return found === "several" ? undefined : found;
}

/**
 * The descriptor of the one socket whose peer is `remote`, or in words why none is known to be it. At most `budget`
 * descriptors are looked at.
 */
export function findPeer(libc: Libc, remote: Endpoint, budget: number): number | string {
  const limit = libc.descriptorLimit();
  if (limit > budget) return "more descriptors than the body is worth looking at";
  const found = findSocket(libc, limit, (fd) => libc.hasEndpoint(fd, "remote", remote));
  if (found === "several") return "several connections have this peer";
  return found ?? "its descriptor was not found";
}

/**
 * A descriptor that reads the file `dev`, `ino`, found among the process's own. Any of several will do: they read
 * the same bytes, and this package never uses a descriptor's own position.
 */
export function findFile(libc: Libc, dev: number, ino: number): number | undefined {
  let found: number | undefined;
  libc.eachOpen(libc.descriptorLimit(), (fd) => {
    if (isFile(libc, fd, dev, ino) && libc.isReadable(fd)) found = fd;
    return found === undefined;
  });
  return found;
}

/** Whether `fd` stands for the regular file `dev`, `ino`. */
export function isFile(libc: Libc, fd: number, dev: number, ino: number): boolean {
  const stat = libc.stat(fd);
  return typeof stat === "object" && stat.regular && stat.ino === ino && stat.dev === dev;
}
