import * as fs from "node:fs";
import { exactFileId, isSameFile } from "../../ffi/file_id.ts";
import { REASONS, type RequestHead, type ResponsePlan } from "../file_response.ts";
import { Chunks } from "./body.ts";
import { type FileBody, isFileBody, type OpenFile } from "../root/open_file.ts";
import { type Fields, valueOf } from "../headers.ts";
import type { KeepFile } from "../keep_file.ts";
import type { ResolvedOptions } from "../options.ts";
import { loadSmall } from "./small.ts";

/** The part of Bun in use. */
interface BunGlobal {
  file(path: string): Blob;
}

const bun = (globalThis as { Bun?: BunGlobal }).Bun;
const isDeno = "Deno" in globalThis;

/**
 * Bodies up to so many bytes are read at once and sent as bytes. CPU time for a response, as bytes and as the runtime's
 * own file body (measured): Deno 32 and 48 µs at 16 KiB, 70 and 52 at 32; Bun 34 and 41 at 64 KiB, 59 and 58 at 128.
 */
const SMALL = bun ? 128 * 1024 : 16 * 1024;

/** `new Response` copies what it is given (Fetch standard, 6.5), so one buffer serves all. */
let scratch: Uint8Array<ArrayBuffer> | undefined;

/** What a Response's body stands for. */
export interface FileStream {
  readonly body: FileBody;
  readonly rateLimit: number | undefined;
  /** Whether it is a Bun.file, which the server opens itself: the descriptor of `body` has been closed. */
  readonly isBunFile: boolean;
  /** Present where the file is open: true makes it the caller's, who closes it. False where somebody has read of it. */
  take?(): boolean;
}

/** The bodies that are streams of files, and what they stand for: whoever sends one may send the file instead. */
const fileStreams = new WeakMap<ReadableStream, FileStream>();
let fileStreamsMade = 0;

function remember(stream: ReadableStream, file: FileStream): void {
  fileStreams.set(stream, file);
  fileStreamsMade++;
}

/** How many there have been: it tells at no cost that none was made by what ran in between. */
export function countFileStreams(): number {
  return fileStreamsMade;
}

/** The file that a body still is. */
export function fileStreamOf(body: ReadableStream): FileStream | undefined {
  return fileStreams.get(body);
}

/** Whether somebody asks which way bodies go that are Bun.files. */
let asksForBunFiles = false;

/** From now on {@link fileStreamOf} knows the bodies that are Bun.files, too: each costs the ReadableStream it is seen as. */
export function askForBunFiles(): void {
  asksForBunFiles = true;
}

/** An answer as the Response that the runtime sends best. */
export async function toResponse(
  plan: ResponsePlan,
  requestHead: RequestHead,
  resolved: ResolvedOptions,
  keep?: KeepFile,
): Promise<Response> {
  if (keep && isFileBody(plan.body)) return toKept(plan, plan.body, resolved, keep);
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
  // The same object each time; Bun.serve sends a Bun.file by sendfile(2) after that, too (strace).
  else if (asksForBunFiles) remember(response.body!, { body, rateLimit, isBunFile: true });
  return response;
}

/** The Response of a request whose server sends files itself: the body is not opened anew, nor read, until somebody does. */
function toKept(
  { status, headers }: ResponsePlan,
  body: FileBody,
  { rateLimit }: ResolvedOptions,
  keep: KeepFile,
): Response {
  const chunks = new Chunks(body, rateLimit);
  let isFree = true;
  const take = () => isFree && !(isFree = false);
  const stream = streamOf(chunks, take);
  remember(stream, { body, rateLimit, isBunFile: false, take });
  keep(() => {
    if (take()) chunks.close();
  });
  return new Response(stream, initOf(status, headers));
}

/** What Bun.serve sends with a GET and not with the same HEAD. */
function addToHead(headers: Fields): void {
  headers["Date"] = new Date().toUTCString(); // an origin server must send it: RFC 9110, 6.6.1
  if ("ETag" in headers && Number(headers["Content-Length"]) > SMALL) {
    showInline(headers);
  }
}

/** What Bun.serve has with a file where the caller has no word on it; and without the field it adds `filename=`. */
function showInline(headers: Fields): void {
  if (valueOf(headers, "Content-Disposition") === undefined) headers["Content-Disposition"] = "inline";
}

/**
 * A 200 with a whole Bun.file becomes a 206 where Bun.serve sees a Range, whatever the handler made of that. A slice
 * that ends behind the file's end is sent as it is, to that end.
 */
const BEYOND = 2 ** 50;

/** The body that the runtime itself sends, where that is exactly what is promised; then the file is closed. */
function nativeBody(
  { file, parts }: FileBody,
  headers: Fields,
  status: number,
  { field }: RequestHead,
): BodyInit | undefined {
  const [{ offset, count }] = parts;
  if (parts.length > 1) return undefined;
  if (bun) {
    // Bun opens the path once more when it sends, and takes what is there then. Who asks for the rest of the very file
    // that it has a part of gets it from the one that is open.
    if (!isStill(file) || (status === 206 && field("if-range"))) return undefined;
    fs.closeSync(file.fd);
    showInline(headers);
    return bun.file(file.real).slice(offset, status === 200 ? BEYOND : offset + count);
  }
  // Deno's goes on to the end of the file. HTTP/1.1 cuts it at the Content-Length; HTTP/2, where no request has a Host
  // of its own, fails at the client over each byte that the file has grown by.
  if (!isDeno || offset + count !== file.size || !field("host")) return undefined;
  const native = openNative(file, offset);
  if (native) fs.closeSync(file.fd);
  return native;
}

/** Whether the file's path still leads to it. */
function isStill(file: OpenFile): boolean {
  const stat = fs.statSync(file.real, { throwIfNoEntry: false });
  const id = stat && exactFileId(stat.dev, stat.ino);
  return id !== undefined && isSameFile(id, file);
}

/** One chunk at a time, when it is asked for. `begin`: called before the file is touched; false: it is another's now. */
function streamOf(chunks: Chunks, begin?: () => boolean): ReadableStream<Uint8Array<ArrayBuffer>> {
  let hasBegun = begin === undefined;
  const own = () => hasBegun ||= begin!();
  // The consumer may leave in the middle of a read, and the descriptor is in use until that is over.
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
      chunks.stop(new Error("nobody reads the body any more"));
      await reading;
      chunks.close();
    },
  }, { highWaterMark: 0 });
}

/**
 * The runtime's own stream of a file, which reads outside of JavaScript. It has to be opened anew: node:fs's
 * descriptors have none. Undefined where the path has become another file meanwhile.
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
  const stat = native.statSync();
  const id = exactFileId(stat.dev, stat.ino);
  if (id && isSameFile(id, file)) {
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
  if (!lists) return headers as Record<string, string>;
  return Object.entries(headers).flatMap(([name, value]): [string, string][] =>
    typeof value === "string" ? [[name, value]] : value.map((value) => [name, value])
  );
}
