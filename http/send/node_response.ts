import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { adapterOf } from "../../sockets/mod.ts";
import type { RequestHead, ResponsePlan } from "../file_response.ts";
import { Chunks } from "./body.ts";
import { type FileBody, isFileBody } from "../root/open_file.ts";
import { describesFile, type Fields, isServers, letsCachesKeep, putFields, valueOf } from "../headers.ts";
import { holdReading, holdReadingFor } from "./hold_reading.ts";
import type { ResolvedOptions } from "../options.ts";
import { countOf } from "./parts.ts";
import { loadSmall } from "./small.ts";
import { LeftError, type Outcome, problemOf, type Sent, transmit } from "./socket.ts";

/**
 * Files up to so many bytes are read and written with the head. In Deno none: sendfile is as fast at 4 KiB and a quarter
 * faster at 64 (measured). In Bun the head has to leave first, a turn of the loop earlier: 4 KiB by sendfile takes 3
 * times as long, 64 KiB twice, 128 KiB about the same.
 */
const SMALL = "Deno" in globalThis ? 0 : 128 * 1024;

/** Requests of one connection that may wait for their turn: browsers send none ahead, load generators some dozens. */
const QUEUE = 1000;

/** The requests of each connection that wait for their turn. */
const queues = new WeakMap<Socket, number>();

/**
 * A pipelined request's response gets its socket once the one before it has ended; until then every byte sent would
 * land inside that. Where the connection ends first the turn never comes, and nothing is left behind. Undefined where
 * it is its turn.
 */
export function inTurn(request: IncomingMessage, response: ServerResponse): Promise<void> | undefined {
  return response.socket ? undefined : turn(request, response);
}

function turn({ socket }: IncomingMessage, response: ServerResponse): Promise<void> {
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

/**
 * Ends the connection under a response that cannot be completed. By the socket: where the head has not left yet Bun's
 * `response.destroy()` sends one of its own, an empty 200 (oven-sh/bun#39366). In HTTP/2 only the stream ends.
 */
export function cutOff(response: ServerResponse): void {
  const { req, socket } = response;
  if (req.httpVersionMajor === 1) (socket ?? req.socket).destroy();
  response.destroy();
}

/** Sends an answer, exactly as long as its head says, or ends the connection. Closes the file. */
export async function deliver(
  request: IncomingMessage,
  response: ServerResponse,
  plan: ResponsePlan,
  requestHead: RequestHead,
  resolved: ResolvedOptions,
): Promise<Sent> {
  // Nobody will read the request's body, and Deno stops at what is left of it: the next request would never come.
  if ("content-length" in request.headers || "transfer-encoding" in request.headers) request.resume();
  const loading = loadSmall(plan, requestHead, resolved, SMALL);
  const { status, headers, body, problem } = loading instanceof Promise
    ? await holdReadingFor(request, loading)
    : loading;
  try {
    clearBefore(response, status, headers);
    response.writeHead(status, headers);
  } catch (error) {
    if (isFileBody(body)) fs.closeSync(body.file.fd);
    throw error;
  }
  if (!isFileBody(body)) {
    response.end(body);
    if (body instanceof Uint8Array && isFileBody(plan.body)) {
      return { status, bytes: countOf(plan.body), way: "copy (small)" };
    }
    return { status, bytes: body === undefined ? 0 : Buffer.byteLength(body), way: "-", problem };
  }
  const reason = whyThroughResponse(response);
  return reason === undefined
    ? { status, ...await sendBody(response, response.socket!, body, resolved) }
    : { status, ...await writeBody(response, body, resolved), way: `copy (${reason})` };
}

/**
 * Takes off what was set on a response before and would contradict what is sent now: what frames it, what describes a
 * file, and what would let caches keep an error. What was set for the file that is sent is among `headers` already.
 * `Vary` is merged: another's (CORS middleware's) would be gone, as writeHead puts ours in its place.
 */
function clearBefore(response: ServerResponse, status: number, headers: Fields): void {
  for (const name of response.getHeaderNames()) {
    if (name === "vary") {
      if (valueOf(headers, name) !== undefined) {
        putFields(headers, [[name, String(response.getHeader(name))]]);
      }
    } else if (describesFile(name) || (isServers(name) && !PERSISTENCE.has(name))) {
      response.removeHeader(name);
    } else if (status >= 400 && letsCachesKeep(name, String(response.getHeader(name)))) {
      response.removeHeader(name);
    }
  }
}

/** Fields that node:http itself looks at: a handler may say that the connection is to end. */
const PERSISTENCE = new Set(["connection", "date", "keep-alive"]);

/** Why the body has to go through the response's own `write`; undefined where the socket can be written to. */
function whyThroughResponse(response: ServerResponse): string | undefined {
  // A middleware that compresses has put its own in place, and perhaps its Content-Encoding into the head.
  if (Object.hasOwn(response, "write")) return "the response is wrapped";
  try {
    adapterOf(response.socket as Socket);
    return undefined;
  } catch {
    return "the response has no socket of its own"; // HTTP/2, or a test's
  }
}

async function sendBody(
  response: ServerResponse,
  socket: Socket,
  body: FileBody,
  { rateLimit }: ResolvedOptions,
): Promise<Outcome> {
  let head: string;
  try {
    head = takeHead(response);
  } catch (error) {
    fs.closeSync(body.file.fd);
    throw error;
  }
  const release = holdReading(response.req, socket);
  try {
    const outcome = await transmit(socket, head, body, rateLimit);
    if (outcome.problem === undefined) response.end();
    else cutOff(response);
    return outcome;
  } finally {
    release(); // also where a middleware's `end` throws
  }
}

/** The insides of node:http's OutgoingMessage in use. */
interface Outgoing {
  _header?: unknown;
  _headerSent?: boolean;
  outputData?: readonly unknown[];
}

/**
 * The response's head as text, which then is ours to send: so it goes in one segment with the file's first bytes, and
 * without a write of its own, which costs Deno more than all the rest. Sent by the response itself, and "", where its
 * insides are not those of Node.js.
 */
function takeHead(response: ServerResponse): string {
  const inside = response as unknown as Outgoing;
  if (typeof inside._header === "string" && inside._headerSent === false && inside.outputData?.length === 0) {
    inside._headerSent = true;
    return inside._header;
  }
  response.flushHeaders();
  return "";
}

async function writeBody(
  response: ServerResponse,
  body: FileBody,
  { rateLimit }: ResolvedOptions,
): Promise<Omit<Outcome, "way">> {
  const chunks = new Chunks(body, rateLimit);
  const room = new Room(response);
  const stop = () => chunks.stop(new LeftError());
  response.on("close", stop);
  try {
    for (let chunk; (chunk = await chunks.next());) {
      if (!response.write(chunk)) await room.wait();
      if (response.destroyed) throw new LeftError();
    }
    response.end();
    return { bytes: chunks.sent };
  } catch (error) {
    cutOff(response);
    return { bytes: chunks.sent, problem: problemOf(error) };
  } finally {
    response.off("close", stop);
    room.close();
    chunks.close();
  }
}

/**
 * When a response has room again. It listens once for a whole body: a middleware that compresses gives what listens to
 * 'drain' to a stream of its own, where `off` does not find it.
 */
class Room {
  readonly #response: ServerResponse;
  #wake = () => {};
  readonly #listener = () => this.#wake();

  constructor(response: ServerResponse) {
    this.#response = response;
    response.on("drain", this.#listener);
    response.on("close", this.#listener);
  }

  /** To be called where `write` has just returned false. Resolves also where the response has been closed. */
  async wait(): Promise<void> {
    if (!this.#response.destroyed) await new Promise<void>((resolve) => this.#wake = resolve);
  }

  close(): void {
    this.#response.off("drain", this.#listener);
    this.#response.off("close", this.#listener);
  }
}
