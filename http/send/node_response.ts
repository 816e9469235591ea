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
import { countOf } from "../rfc9110/multipart.ts";
import { loadSmall } from "./small.ts";
import { FROM_CACHE, LeftError, type Outcome, problemOf, type Sent, transmit } from "./socket.ts";
import { isDeno } from "../../runtime.ts";

/**
 * Files up to this many bytes are read and written together with the head. In Deno none: sendfile is as fast at 4 KiB
 * and a quarter faster at 64 KiB (measured). In Bun the head has to be sent one round of the event loop before
 * sendfile: 4 KiB take 3 times as long that way, 64 KiB twice, 128 KiB about the same.
 */
const SMALL = isDeno ? 0 : 128 * 1024;

/**
 * The most requests of one connection that may wait for their turn: browsers do not pipeline, load generators send
 * some dozens ahead.
 */
const QUEUE = 1000;

/** The requests of each connection that wait for their turn. */
const queues = new WeakMap<Socket, number>();

/**
 * The response to a pipelined request gets its socket once the response before it has ended; until then every byte
 * sent would land inside that one. If the connection ends first, the promise never resolves, and nothing leaks.
 * Undefined if it is this response's turn already.
 */
export function inTurn(request: IncomingMessage, response: ServerResponse): Promise<void> | undefined {
  return response.socket ? undefined : turn(request, response);
}

function turn({ socket }: IncomingMessage, response: ServerResponse): Promise<void> {
  const waiting = (queues.get(socket) ?? 0) + 1;
  queues.set(socket, waiting);
  // The stream's backpressure does not see bytes sent by sendfile(2), so nothing else would limit how far we read
  // ahead.
  if (waiting > QUEUE) socket.destroy();
  return new Promise((resolve) => {
    response.once("socket", () => {
      queues.set(socket, queues.get(socket)! - 1);
      resolve();
    });
  });
}

/**
 * Ends the connection of a response that cannot be completed. We destroy the socket, because Bun's
 * `response.destroy()` sends an empty 200 if the head was not sent yet (oven-sh/bun#39366). In HTTP/2 only the stream
 * ends.
 */
export function cutOff(response: ServerResponse): void {
  const { req, socket } = response;
  if (req.httpVersionMajor === 1) (socket ?? req.socket).destroy();
  response.destroy();
}

/** Sends a response plan with exactly the length that its head promises, or ends the connection. Closes the file. */
export async function deliver(
  request: IncomingMessage,
  response: ServerResponse,
  plan: ResponsePlan,
  requestHead: RequestHead,
  resolved: ResolvedOptions,
): Promise<Sent> {
  // Nobody reads the request's body, and Deno does not read past it: the next request would never arrive.
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
    endAtOnce(request, response, body);
    if (plan.cached !== undefined) return { status, bytes: plan.cached, way: FROM_CACHE };
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
 * Ends a response whose body is in memory. In Deno the client's half-close would otherwise be read before the next
 * pipelined request is answered, and the connection given up.
 */
function endAtOnce(
  request: IncomingMessage,
  response: ServerResponse,
  body: Uint8Array | string | undefined,
): void {
  const { socket } = response;
  const release = isDeno && request.httpVersionMajor === 1 && socket
    ? holdReading(request, socket)
    : undefined;
  response.end(body);
  release?.();
}

/**
 * Removes fields that were set on the response earlier and contradict what is sent now: fields that frame the body,
 * that describe a file, or that would let caches store an error. Fields set for the file that is sent are in
 * `headers` already. `Vary` is merged, because writeHead would replace the value of others (CORS middleware) with
 * ours.
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

/** Fields that node:http interprets itself: a handler may request that the connection ends. */
const PERSISTENCE = new Set(["connection", "date", "keep-alive"]);

/** The reason why the body must go through the response's own `write`; undefined if we may write to the socket. */
function whyThroughResponse(response: ServerResponse): string | undefined {
  // A compressing middleware has replaced `write`, and may have added its Content-Encoding to the head.
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
    release(); // also if a middleware's `end` throws
  }
}

/** The internals of node:http's OutgoingMessage that we use. */
interface Outgoing {
  _header?: unknown;
  _headerSent?: boolean;
  outputData?: readonly unknown[];
}

/**
 * Takes the response's head as text, so that we send it in one segment with the file's first bytes: a separate write
 * costs Deno more than all the rest. Returns "" if the internals are not those of Node.js; then the response sends
 * its head itself.
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
 * Waits until a response can take more. It adds one listener for a whole body, because a compressing middleware moves
 * 'drain' listeners to its own stream, where `off` does not find them.
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

  /** Call it when `write` has just returned false. Resolves also if the response was closed. */
  async wait(): Promise<void> {
    if (!this.#response.destroyed) await new Promise<void>((resolve) => this.#wake = resolve);
  }

  close(): void {
    this.#response.off("drain", this.#listener);
    this.#response.off("close", this.#listener);
  }
}
