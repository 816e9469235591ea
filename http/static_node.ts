import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { ConnectionClosedError, sendfile } from "../mod.ts";
import { answer } from "./answer.ts";
import type { LogEntry } from "./log.ts";
import type { OpenFile } from "./paths.ts";

/** Milliseconds for which a client may take nothing of a body before it is given up. */
const STALLED = 120_000;

/** Requests of one connection that may wait for their turn: browsers send none ahead, load generators some dozens. */
const QUEUE = 1000;

/** The requests of each connection that wait for their turn. */
const queues = new WeakMap<Socket, number>();

/** A node:http request listener that serves the files below `root`, and tells `log` what came of each response. */
export function staticHandler(
  root: string,
  log: (entry: LogEntry) => void,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    const ready = response.socket ? respond(root, request, response, log) : inTurn(request, response).then(
      () => respond(root, request, response, log),
    );
    ready.catch((error) => {
      console.error(error);
      response.destroy();
    });
  };
}

/**
 * A pipelined request's response gets its socket once the one before it has ended; until then every byte sent would
 * land inside that. Where the connection ends first the turn never comes, and nothing is left behind.
 */
function inTurn({ socket }: IncomingMessage, response: ServerResponse): Promise<void> {
  const waiting = (queues.get(socket) ?? 0) + 1;
  queues.set(socket, waiting);
  // sendfile(2) does not count against the stream's backpressure, so nothing else would stop the reading ahead.
  if (waiting > QUEUE) socket.destroy();
  return new Promise((resolve) => {
    response.once("socket", () => {
      queues.set(socket, queues.get(socket)! - 1);
      resolve();
    });
  });
}

async function respond(
  root: string,
  { method = "", url: target = "" }: IncomingMessage,
  response: ServerResponse,
  log: (entry: LogEntry) => void,
): Promise<void> {
  if (!response.socket || response.socket.destroyed) return;
  const { status, headers, body, problem } = answer(root, method, target);
  response.writeHead(status, headers);
  const entry = { method, target, status };
  if (typeof body !== "string") {
    log({ ...entry, ...await sendBody(response, response.socket, body) });
    return;
  }
  response.end(body);
  log({ ...entry, bytes: method === "HEAD" ? 0 : Buffer.byteLength(body), way: "-", problem });
}

/** Sends the file as the body, exactly as long as the head has promised, or ends the connection. */
async function sendBody(
  response: ServerResponse,
  socket: Socket,
  { fd, size }: OpenFile,
): Promise<Pick<LogEntry, "bytes" | "way" | "problem">> {
  let bytes = 0;
  let way = "-";
  try {
    response.flushHeaders();
    await sendfile(socket, fd, {
      count: size,
      timeout: STALLED,
      onStart: ({ via, reason }) => way = reason === undefined ? via : `${via} (${reason})`,
      onProgress: (sent) => bytes = sent,
    });
    if (bytes < size) throw new Error("the file became shorter");
    response.end();
    return { bytes, way };
  } catch (error) {
    response.destroy();
    const problem = error instanceof ConnectionClosedError ? "the client left" : (error as Error).message;
    return { bytes, way, problem };
  } finally {
    fs.closeSync(fd);
  }
}

/** Serves `root` by node:http; resolves to the port. */
export function listen(
  root: string,
  { host, port, log }: { host: string; port: number; log: (entry: LogEntry) => void },
): Promise<number> {
  const server = createServer(staticHandler(root, log));
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
  });
}
