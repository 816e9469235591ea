/**
 * Sends files in one way, compares what arrives, and prints how the bytes went as JSON. Run by every version of every
 * runtime, as JavaScript:
 *
 *     PROGRAM probe.js ROW
 *
 * `ROW`: one of {@link PROBES}; or `facts`, what this package rests on.
 */
import { sendfileStats } from "@zerocopy/sendfile";
import { serveDir, withSendfile } from "@zerocopy/sendfile/http";
import { serveStatic } from "@zerocopy/sendfile/node";
import { serve, type ServeHandler } from "@zerocopy/sendfile/serve";
import * as fs from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { askFacts } from "./facts.ts";
import { compareBodies, makeFile } from "./bodies.ts";

/** What a probe prints. */
export interface Outcome {
  /** Bytes of files that this package has sent by sendfile(2). */
  readonly sendfile: number;
  /** Bytes that were to arrive, and did. */
  readonly bytes: number;
  /** Why not by sendfile(2). */
  readonly reasons: readonly string[];
}

/** A server that serves `root`. */
interface Running {
  readonly port: number;
  close(): unknown;
}

type Handler = (request: Request, info: unknown) => Response | Promise<Response>;

/** The members of Bun that are used. */
interface BunGlobal {
  serve(options: { hostname: string; port: number; fetch: Handler }): {
    port: number;
    stop(closeActive: boolean): unknown;
  };
}

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

/** The runtime's own server with a handler. */
function runtimeServer(handler: Handler): Running {
  if ("Bun" in globalThis) {
    const { Bun } = globalThis as unknown as { Bun: BunGlobal };
    const server = Bun.serve({ ...LOOPBACK, fetch: handler });
    return { port: server.port, close: () => server.stop(true) };
  }
  const server = Deno.serve({ ...LOOPBACK, onListen() {} }, handler);
  return { port: server.addr.port, close: () => server.shutdown() };
}

function dirHandler(root: string): Handler {
  return (request) => serveDir(request, { fsRoot: root, quiet: true }) as Promise<Response>;
}

const PROBES: Record<string, (root: string) => Running | Promise<Running>> = {
  async serveStatic(root) {
    const server = createServer(serveStatic(root));
    await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
    return { port: (server.address() as AddressInfo).port, close: () => server.close() };
  },
  serveDir: (root) => runtimeServer(dirHandler(root)),
  withSendfile: (root) => runtimeServer(withSendfile(dirHandler(root)) as Handler),
  async serve(root) {
    const listening = Promise.withResolvers<number>();
    const server = serve(
      { ...LOOPBACK, onListen: ({ port }) => listening.resolve(port) },
      dirHandler(root) as ServeHandler,
    );
    return { port: await listening.promise, close: () => server.shutdown() };
  },
};

async function probe(row: string): Promise<Outcome> {
  const root = fs.mkdtempSync(join(tmpdir(), "platforms-"));
  try {
    const content = makeFile(root);
    const server = await PROBES[row](root);
    const bytes = await compareBodies(server.port, content);
    await server.close();
    const { sendfile, reasons } = sendfileStats();
    return { sendfile: sendfile.bytes, bytes, reasons: Object.keys(reasons) };
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

const row = process.argv[2];
console.log(JSON.stringify(row === "facts" ? await askFacts() : await probe(row)));
process.exit(0); // what keeps a client's connection open is not ours to wait for
