import * as fs from "node:fs";
import type { Answer, Asked, Fields } from "./answer.ts";
import { Chunks } from "./body.ts";
import { type FileBody, isFileBody, type OpenFile } from "./file.ts";
import type { Rules } from "./options.ts";
import { loadSmall } from "./small.ts";

/** The part of Bun in use. */
interface BunGlobal {
  file(path: string): Blob;
}

const bun = (globalThis as { Bun?: BunGlobal }).Bun;
const isDeno = "Deno" in globalThis;

/**
 * Bodies up to so many bytes are read at once and sent as bytes: one system call in place of a stream. Measured on
 * Deno.serve: 16 KiB TODO; on Bun.serve
 */
const SMALL = bun ? 128 * 1024 : 16 * 1024;

/** `new Response` copies what it is given (Fetch standard, 6.5), so one buffer serves all. */
let scratch: Uint8Array<ArrayBuffer> | undefined;

/** An answer as the Response that the runtime sends best. */
export function toResponse(answer: Answer, asked: Asked, rules: Rules): Response {
  const { status, headers, body } = loadSmall(answer, asked, rules, SMALL, scratch ??= new Uint8Array(SMALL));
  if (!isFileBody(body)) {
    // Bun.serve leaves it out of its answers to HEAD, and an origin server must send it (RFC 9110, 6.6.1).
    if (bun && asked.method === "HEAD") headers["Date"] = new Date().toUTCString();
    return new Response(body, { status, headers: toInit(headers) });
  }
  const { rateLimit } = rules;
  // A 200 with a Bun.file body becomes a 206 where Bun.serve sees a Range, whatever the handler made of that.
  const native = rateLimit === undefined && !(bun && status === 200 && asked.field("range"));
  const stream = native && nativeBody(body, headers) || streamOf(new Chunks(body, rateLimit));
  return new Response(stream, { status, headers: toInit(headers) });
}

/** The body that the runtime itself sends, where that is exactly what is promised; then the file is closed. */
function nativeBody({ file, parts }: FileBody, headers: Fields): BodyInit | undefined {
  const [{ offset, count }] = parts;
  if (parts.length > 1) return undefined;
  if (bun) {
    fs.closeSync(file.fd);
    // Without the field Bun adds `filename=`.
    headers["Content-Disposition"] ??= "inline";
    return bun.file(file.real).slice(offset, offset + count);
  }
  // Deno's goes on to the end of the file.
  if (!isDeno || offset + count !== file.size) return undefined;
  const native = openNative(file, offset);
  if (native) fs.closeSync(file.fd);
  return native;
}

/** One chunk at a time, when it is asked for. */
function streamOf(chunks: Chunks): ReadableStream<Uint8Array<ArrayBuffer>> {
  // The consumer may leave in the middle of a read, and the descriptor is in use until that is over.
  let reading: Promise<unknown> | undefined;
  return new ReadableStream({
    async pull(controller) {
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
  { real, dev, ino }: OpenFile,
  offset: number,
): ReadableStream<Uint8Array<ArrayBuffer>> | undefined {
  let native: Deno.FsFile;
  try {
    native = Deno.openSync(real);
  } catch {
    return undefined;
  }
  const stat = native.statSync();
  if (stat.dev === dev && stat.ino === ino) {
    if (offset > 0) native.seekSync(offset, Deno.SeekMode.Start);
    return native.readable;
  }
  native.close();
  return undefined;
}

function toInit(headers: Fields): HeadersInit {
  const lists = Object.values(headers).some((value) => typeof value !== "string");
  if (!lists) return headers as Record<string, string>;
  return Object.entries(headers).flatMap(([name, value]): [string, string][] =>
    typeof value === "string" ? [[name, value]] : value.map((value) => [name, value])
  );
}
