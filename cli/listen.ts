import type { FileServer } from "../server/server.ts";
import type { TcpPlace } from "../server/transport.ts";
import { Failure } from "./arguments.ts";

/** The default port. */
const DEFAULT_PORT = 8000;

/** The number of ports tried from the default on; if all are taken, the system chooses one. */
const TRIED = 100;

/**
 * Listens and returns the port: `port`, or the first free one from 8000 on. Throws {@link Failure}. We find a free
 * port by listening on it: a port that was only checked could be taken before we listen.
 */
export function listen(server: FileServer, place: Omit<TcpPlace, "port">, port: number | undefined): number {
  if (port !== undefined) return listenAt(server, { ...place, port });
  for (let tried = DEFAULT_PORT; tried < DEFAULT_PORT + TRIED; tried++) {
    try {
      return server.listen({ ...place, port: tried });
    } catch (error) {
      if (!isInUse(error)) throw failure(place.host, tried, error);
    }
  }
  return listenAt(server, { ...place, port: 0 });
}

function listenAt(server: FileServer, place: TcpPlace): number {
  try {
    return server.listen(place);
  } catch (error) {
    throw failure(place.host, place.port, error);
  }
}

function isInUse(error: unknown): boolean {
  return (error as { code?: string }).code === "EADDRINUSE";
}

function failure(host: string, port: number, error: unknown): Failure {
  const reason = isInUse(error) ? "the port is in use" : (error as Error).message;
  return new Failure(`cannot listen on ${authority(host, port)}: ${reason}`, 1);
}

/** Formats host and port for a URL. */
export function authority(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
