import * as fs from "node:fs";
import { answer } from "./answer.ts";
import type { LogEntry } from "./log.ts";

/** The part of Bun in use. */
interface BunGlobal {
  serve(options: {
    hostname: string;
    port: number;
    idleTimeout: number;
    development: boolean;
    fetch(request: Request): Response;
    error(error: Error): Response;
  }): { readonly port: number };
  file(path: string): Blob;
}

/** Seconds without a byte after which Bun gives a connection up. Its own 10 cut off who only pauses. */
const IDLE = 120;

/**
 * A `Bun.serve` handler that serves the files below `root`; Bun itself sends the larger ones by sendfile(2), and
 * answers a request for one range of them.
 *
 * It is synchronous on purpose: where a pipelined request arrives before the response ahead of it has ended, Bun
 * closes the connection (oven-sh/bun#38128).
 */
export function staticHandler(
  root: string,
  log: (entry: LogEntry) => void,
): (request: Request) => Response {
  const bun = (globalThis as unknown as { Bun: BunGlobal }).Bun;
  return ({ method, url }) => {
    // Without a usable Host header the URL is only the target.
    const target = url.replace(/^https?:\/\/[^/?#]*/, "");
    const { status, headers, body, problem } = answer(root, method, target);
    const entry = { method, target, status, problem };
    if (typeof body === "string") {
      log({ ...entry, bytes: method === "HEAD" ? 0 : body.length, way: "-" });
      return new Response(method === "HEAD" ? null : body, { status, headers });
    }
    fs.closeSync(body.fd);
    log({ ...entry, bytes: body.size, way: "native" });
    // Bun opens the file itself, and its size at that moment is the length; it also would add a `filename`.
    const { "Content-Length": _, ...rest } = headers;
    return new Response(bun.file(body.path), {
      status,
      headers: { ...rest, "Content-Disposition": "inline" },
    });
  };
}

/** Serves `root` by Bun.serve; resolves to the port. */
export function listen(
  root: string,
  { host, port, log }: { host: string; port: number; log: (entry: LogEntry) => void },
): Promise<number> {
  const bun = (globalThis as unknown as { Bun: BunGlobal }).Bun;
  const fetch = staticHandler(root, log);
  const error = ({ message }: Error) => {
    console.error(message);
    return new Response("500 Internal Server Error\n", { status: 500 });
  };
  // Development mode would show the client where in the source an error was thrown.
  const server = bun.serve({ hostname: host, port, idleTimeout: IDLE, development: false, fetch, error });
  return Promise.resolve(server.port);
}
