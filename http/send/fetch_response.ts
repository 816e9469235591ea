import * as fs from "node:fs";
import { exactFileId, isSameFile } from "../../ffi/file_id.ts";
import { REASONS, type RequestHead, type ResponsePlan } from "../file_response.ts";
import { Chunks } from "./body.ts";
import { type FileBody, isFileBody, type OpenFile } from "../root/open_file.ts";
import { type Fields, pairsOf, valueOf } from "../headers.ts";
import type { KeepFile } from "../keep_file.ts";
import type { ResolvedOptions } from "../options.ts";
import { lazyResponse } from "./lazy_response.ts";
import { loadSmall } from "./small.ts";
import { isBunBefore, isDeno } from "../../runtime.ts";

/** The members of Bun that we use. */
interface BunGlobal {
  file(path: string): Blob;
}

const bun = (globalThis as { Bun?: BunGlobal }).Bun;

/**
 * Bodies up to this many bytes are read whole and sent as bytes. CPU time in µs for a response, sent as bytes and as
 * the runtime's own file body (measured): Deno 32 and 48 µs at 16 KiB, 70 and 52 at 32; Bun 34 and 41 at 64 KiB, 59
 * and 58 at 128.
 */
const SMALL = bun ? 128 * 1024 : 16 * 1024;

/** One buffer for all responses: `new Response` copies its argument (Fetch standard, 6.5). */
let scratch: Uint8Array<ArrayBuffer> | undefined;

/** The file that a Response's body is made from. */
export interface FileStream {
  readonly body: FileBody;
  readonly rateLimit: number | undefined;
  /** Whether the body is a Bun.file, which the server opens itself: the descriptor of `body` is closed already. */
  readonly isBunFile: boolean;
  /**
   * Present if the file is open. Returns true if the caller now owns the file and must close it; false if the body
   * has been read from.
   */
  take?(): boolean;
}

/** The bodies that are streams of files, with their files: a server may send the file instead of the stream. */
const fileStreams = new WeakMap<ReadableStream, FileStream>();
let fileStreamsMade = 0;

function remember(stream: ReadableStream, file: FileStream): void {
  fileStreams.set(stream, file);
  fileStreamsMade++;
}

/** How many file streams were created so far. Comparing two counts shows cheaply whether one was created in between. */
export function countFileStreams(): number {
  return fileStreamsMade;
}

/** The file of a body that nobody has read from. */
export function fileStreamOf(body: ReadableStream): FileStream | undefined {
  return fileStreams.get(body);
}

/** Whether bodies that are Bun.files are remembered, too. */
let asksForBunFiles = false;

/**
 * From now on {@link fileStreamOf} also knows bodies that are Bun.files. Each costs the creation of a ReadableStream.
 */
export function askForBunFiles(): void {
  asksForBunFiles = true;
}

/** Turns a response plan into the kind of Response that the runtime sends fastest. */
export async function toResponse(
  plan: ResponsePlan,
  requestHead: RequestHead,
  resolved: ResolvedOptions,
  keep?: KeepFile,
): Promise<Response> {
  if (keep) return toKept(plan, resolved, keep);
  const loading = loadSmall(plan, requestHead, resolved, SMALL, scratch ??= new Uint8Array(SMALL));
  const { status, headers, body } = loading instanceof Promise ? await loading : loading;
  if (!isFileBody(body)) {
    if (bun && requestHead.method === "HEAD") addToHead(headers);
    return new Response(body, initOf(status, headers));
  }
  const { rateLimit } = resolved;
  const native = rateLimit === undefined ? nativeBody(body, headers, status, requestHead) : undefined;
  const sent = native ?? streamOf(new Chunks(body, rateLimit));
  const response = new Response(sent, initOf(status, headers));
  if (sent instanceof ReadableStream) remember(sent, { body, rateLimit, isBunFile: false });
  // `response.body` is the same object each time, and reading it does not keep Bun.serve from sendfile(2) (strace).
  else if (asksForBunFiles) remember(response.body!, { body, rateLimit, isBunFile: true });
  return response;
}

/**
 * The Response for a server that sends files itself: a file is neither opened again nor read unless someone reads the
 * body.
 */
function toKept(
  { status, headers, body }: ResponsePlan,
  { rateLimit }: ResolvedOptions,
  keep: KeepFile,
): Response {
  const kept = { status, fields: headers, body, rateLimit };
  if (!isFileBody(body)) {
    return lazyResponse({ ...kept, take: () => true }, () => new Response(body, initOf(status, headers)));
  }
  let isFree = true;
  const take = () => isFree && !(isFree = false);
  keep(() => {
    if (take()) fs.closeSync(body.file.fd);
  });
  return lazyResponse({ ...kept, take }, () => {
    const stream = streamOf(new Chunks(body, rateLimit), take);
    remember(stream, { body, rateLimit, isBunFile: false, take });
    return new Response(stream, initOf(status, headers));
  });
}

/** Adds the fields that Bun.serve sends with a GET and omits with the same HEAD. */
function addToHead(headers: Fields): void {
  headers["Date"] = new Date().toUTCString(); // an origin server must send it: RFC 9110, 6.6.1
  if ("ETag" in headers && Number(headers["Content-Length"]) > SMALL) {
    showInline(headers);
  }
}

/**
 * Sets the Content-Disposition that Bun.serve gives a file, unless the caller set one. Without the field Bun.serve
 * adds `filename=`.
 */
function showInline(headers: Fields): void {
  if (valueOf(headers, "Content-Disposition") === undefined) headers["Content-Disposition"] = "inline";
}

/**
 * Bun.serve turns a 200 with a whole Bun.file into a 206 if the request has a Range, even if the handler ignored the
 * Range. It leaves a slice that ends after the file's end alone, and sends it up to the file's end.
 */
const BEYOND = 2 ** 50;

/**
 * Before 1.4.1 a slice whose Response was asked for its `body` was sent as the whole file, below the head of the range
 * (measured: 1.2.23 to 1.4.0). A middleware that copies the response asks for it, and so do we.
 */
export const LOSES_RANGES: boolean = isBunBefore("1.4.1");

/** The runtime's own file body, if it sends exactly what the head promises; then our file is closed. */
function nativeBody(
  { file, parts }: FileBody,
  headers: Fields,
  status: number,
  { field }: RequestHead,
): BodyInit | undefined {
  const [{ offset, count }] = parts;
  if (parts.length > 1) return undefined;
  if (bun) {
    if (status === 206 && LOSES_RANGES) return undefined;
    // Bun opens the path again when it sends, and may find another file then. A client that asks with If-Range for
    // the rest of the same file is served from the descriptor that is open.
    const stat = fs.statSync(file.real, { throwIfNoEntry: false });
    if (!isStill(file, stat) || (status === 206 && field("if-range"))) return undefined;
    fs.closeSync(file.fd);
    showInline(headers);
    return bun.file(file.real).slice(offset, status === 200 ? BEYOND : offset + count);
  }
  // Deno's file body goes on to the end of the file. HTTP/1.1 cuts it at the Content-Length. HTTP/2 (recognized by
  // the missing Host field) does not, and the client rejects the response if the file has grown.
  if (!isDeno || offset + count !== file.size || !field("host")) return undefined;
  const native = openNative(file, offset);
  if (native) fs.closeSync(file.fd);
  return native;
}

/** Whether a stat that was made of the path later still is that of the file. */
function isStill(file: OpenFile, stat: { dev: number; ino: number | null } | undefined): boolean {
  const id = stat && exactFileId(stat.dev, stat.ino);
  return id !== undefined && isSameFile(id, file);
}

/**
 * A stream that reads one chunk whenever it is pulled. `begin` is called before the file is touched, and returns
 * false if another owner has taken the file.
 */
function streamOf(chunks: Chunks, begin?: () => boolean): ReadableStream<Uint8Array<ArrayBuffer>> {
  let hasBegun = begin === undefined;
  const own = () => hasBegun ||= begin!();
  // The consumer may cancel during a read; the descriptor is in use until the read is over.
  let reading: Promise<unknown> | undefined;
  return new ReadableStream({
    async pull(controller) {
      if (!own()) throw new TypeError("the file of this body has been sent or closed");
      try {
        const next = chunks.next();
        reading = next.catch(() => {});
        const chunk = await next;
        if (chunk) controller.enqueue(chunk);
        else controller.close();
      } catch (error) {
        chunks.close();
        throw error;
      }
    },
    async cancel() {
      if (!own()) return;
      chunks.stop(new Error("the body was cancelled"));
      await reading;
      chunks.close();
    },
  }, { highWaterMark: 0 });
}

/**
 * The runtime's own stream of a file, which reads outside of JavaScript. The file must be opened again, because a
 * node:fs descriptor has no such stream. Undefined if the path leads to another file now.
 */
function openNative(
  file: OpenFile,
  offset: number,
): ReadableStream<Uint8Array<ArrayBuffer>> | undefined {
  let native: Deno.FsFile;
  try {
    native = Deno.openSync(file.real);
  } catch {
    return undefined;
  }
  if (isStill(file, native.statSync())) {
    if (offset > 0) native.seekSync(offset, Deno.SeekMode.Start);
    return native.readable;
  }
  native.close();
  return undefined;
}

function initOf(status: number, headers: Fields): ResponseInit {
  return { status, statusText: REASONS[status], headers: toInit(headers) };
}

function toInit(headers: Fields): HeadersInit {
  const lists = Object.values(headers).some((value) => typeof value !== "string");
  return lists ? pairsOf(headers) : headers as Record<string, string>;
}
