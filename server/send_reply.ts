import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { isSameFile } from "../ffi/file_id.ts";
import { type FileBody, openRegular } from "../http/root/open_file.ts";
import { bytesOf } from "../http/send/parts.ts";
import type { FileStream } from "../http/send/fetch_response.ts";
import { transmit } from "../http/send/socket.ts";
import { join, type Reply, type StreamBody } from "./reply.ts";
import type { Transport } from "./transport.ts";

/** The connection that a reply is sent on. */
export interface Outlet {
  readonly transport: Transport;
  /** Writes all bytes. Rejects if the connection has ended. */
  write(bytes: Uint8Array): Promise<void>;
  /** Sets the state that the connection's timeout depends on. */
  waitFor(what: "file" | "stream"): void;
  /** Calls `onGone` when the client has half-closed or the connection has ended. */
  watch(onGone: () => void): void;
  /** Aborted when the connection has ended. */
  readonly closed: AbortSignal;
}

/** The stream of a body failed, or produced a chunk that is not bytes. */
export class BodyError extends Error {
  override readonly name = "BodyError";
  constructor(cause: unknown) {
    super("the body of a response failed", { cause });
  }
}

/**
 * Sends a reply. Resolves to undefined, or to the problem if it was not sent completely. `connection`: the Connection
 * field, if the reply does not end the connection.
 */
export function sendReply(
  reply: Reply,
  connection: "close" | "keep-alive" | undefined,
  outlet: Outlet,
): unknown | Promise<unknown> {
  const head = `${reply.head}${connectionLine(reply, connection)}\r\n`;
  const { body } = reply;
  if (body === undefined || body instanceof Uint8Array) return sendBytes(head, body, outlet);
  if ("stream" in body) return pump(head, body, outlet);
  outlet.waitFor("file");
  const outcome = transmit(outlet.transport.socket, head, body.file, body.rateLimit, outlet.closed);
  return outcome instanceof Promise ? outcome.then(problemOf) : problemOf(outcome);
}

function problemOf({ problem }: { readonly problem?: string }): unknown {
  return problem === undefined ? undefined : new Error(problem);
}

/** The Connection field. In HTTP/1.0 the connection ends without it. */
function connectionLine({ old, last, saysClose }: Reply, connection: string | undefined): string {
  if (saysClose) return "";
  if (last || connection === "close") return old ? "" : "connection: close\r\n";
  return connection === undefined ? "" : `connection: ${connection}\r\n`;
}

/**
 * Sends a head and the bytes behind it, in one write if they fit. Resolves to undefined, or to the problem if they were
 * not sent completely.
 */
export function sendBytes(
  head: string,
  body: Uint8Array | undefined,
  outlet: Pick<Outlet, "transport" | "write">,
): unknown | Promise<unknown> {
  const all = join(head, body);
  if (all === undefined) return writeLong(head, body ?? NOTHING, outlet).then(nothing, itself);
  const sent = outlet.transport.send?.(all) ?? 0;
  if (sent === all.length) return undefined;
  return outlet.write(all.slice(sent)).then(nothing, itself);
}

/** Only the first bytes of the body are copied: a listing may have millions. */
async function writeLong(head: string, body: Uint8Array, outlet: Pick<Outlet, "write">): Promise<void> {
  await outlet.write(Buffer.concat([bytesOf(head), body.subarray(0, WITH_HEAD)]));
  if (body.length > WITH_HEAD) await outlet.write(body.subarray(WITH_HEAD));
}

/** Bytes of a long body that are sent together with the head. */
const WITH_HEAD = 64 * 1024;

const NOTHING = new Uint8Array(0);
const nothing = () => undefined;
const itself = (error: unknown) => error;

/** Microtask rounds for which the head waits for a first chunk that is available already. */
const SOON = 8;

/** Sends a stream. Each chunk is sent after the one before it was written. */
async function pump(head: string, { stream, framing }: StreamBody, outlet: Outlet): Promise<unknown> {
  let reader: ReadableStreamDefaultReader<Uint8Array>;
  try {
    reader = stream.getReader();
  } catch (error) {
    return error;
  }
  const giveUp = () =>
    void reader.cancel(outlet.closed.reason).catch(
      () => {/* the connection has ended */},
    );
  outlet.closed.addEventListener("abort", giveUp, { once: true });
  try {
    outlet.watch(() => {});
    await pumpChunks(head, reader, framing, outlet);
    return undefined;
  } catch (error) {
    reader.cancel(error).catch(() => {/* the connection has ended */});
    return error;
  } finally {
    outlet.closed.removeEventListener("abort", giveUp);
  }
}

async function pumpChunks(
  head: string,
  reader: ReadableStreamDefaultReader<Uint8Array>,
  framing: StreamBody["framing"],
  outlet: Outlet,
): Promise<void> {
  let unsent: Uint8Array = bytesOf(head);
  let left = typeof framing === "number" ? framing : Infinity;
  let next = read(reader);
  for (let i = 0; i < SOON && !next.settled; i++) await undefined;
  if (!next.settled) {
    await outlet.write(unsent);
    unsent = NOTHING;
  }
  while (left > 0) {
    outlet.waitFor("stream");
    const value = await next.result;
    outlet.closed.throwIfAborted();
    if (!(value instanceof Uint8Array)) {
      if (value === undefined && left === Infinity) break;
      if (unsent.length > 0) await outlet.write(unsent); // the client gets at least the head
      throw value instanceof BodyError ? value : new BodyError(shortOf(value, left));
    }
    const chunk = value.length > left ? value.subarray(0, left) : value;
    if (chunk.length > 0) {
      await outlet.write(framing === "chunked" ? toChunk(unsent, chunk) : Buffer.concat([unsent, chunk]));
      unsent = NOTHING;
      left -= chunk.length;
    }
    next = read(reader);
  }
  // The promised length has been sent. The connection does not wait for surplus chunks.
  if (left === 0) next.result.then((value) => value && reader.cancel()).catch(nothing);
  if (framing === "chunked") unsent = Buffer.concat([unsent, LAST_CHUNK]);
  if (unsent.length > 0) await outlet.write(unsent);
}

function shortOf(value: unknown, left: number): Error {
  return value === undefined
    ? new Error(`the body ended ${left} bytes before its Content-Length`)
    : new TypeError("a chunk of the body is not a Uint8Array");
}

const LAST_CHUNK = bytesOf("0\r\n\r\n");

function toChunk(before: Uint8Array, chunk: Uint8Array): Uint8Array {
  return Buffer.concat([before, bytesOf(`${chunk.length.toString(16)}\r\n`), chunk, CRLF]);
}

const CRLF = bytesOf("\r\n");

interface Reading {
  /** The next chunk, undefined at the end, or the error. */
  readonly result: Promise<unknown>;
  settled: boolean;
}

function read(reader: ReadableStreamDefaultReader<Uint8Array>): Reading {
  const reading: Reading = {
    result: reader.read().then(({ value }) => value, (error) => new BodyError(error)).finally(() => {
      reading.settled = true;
    }),
    settled: false,
  };
  return reading;
}

/** Closes the file or stream of a reply that is not sent, and reports the problem. */
export function giveUpReply({ body, ended }: Reply, problem: unknown): void {
  if (body !== undefined && !(body instanceof Uint8Array)) {
    if ("stream" in body) {
      body.stream.cancel(problem).catch(() => {/* the connection has ended */});
    } else fs.closeSync(body.file.file.fd);
  }
  ended(problem);
}

/**
 * Takes the open file that a body is made from; the caller closes it. Undefined if the body was read from, or if the
 * path leads to another file now.
 */
export function takeFile({ body, take }: FileStream): FileBody | undefined {
  if (take) return take() ? body : undefined;
  const found = openRegular(body.file.real);
  if (found.kind === "file" && isSameFile(found, body.file) && found.size === body.file.size) {
    return { ...body, file: found };
  }
  if (found.kind === "file") fs.closeSync(found.fd);
  return undefined;
}
