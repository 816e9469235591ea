import type { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { planFailure, type RequestHead, type ResponsePlan } from "../http/file_response.ts";
import type { ResolvedOptions } from "../http/options.ts";
import { acceptedEncodings, type Encoding } from "../http/rfc9110/content_coding.ts";
import { failure, isFileBody, type OpenFile, statDescriptor } from "../http/root/open_file.ts";
import { compressFile, MADE } from "./compress.ts";

/**
 * File sizes in bytes that are compressed: a smaller file fits into one packet anyway, a larger one takes too much
 * memory.
 */
const SIZES = { least: 1024, most: 8 * 1024 * 1024 };

/** Content types worth compressing: text and similar. */
const COMPRESSIBLE =
  /^(?:text\/(?!event-stream)|application\/(?:.+\+)?(?:json|xml|javascript|wasm|x-ndjson|rtf|manifest)|image\/(?:svg\+xml|bmp|x-icon|vnd\.microsoft\.icon)|font\/(?:ttf|otf))\b/;

/** Bytes of compressed files that are cached. */
const KEPT = 64 * 1024 * 1024;

/** Files that are compressed at the same time. The others wait with an open descriptor. */
const AT_ONCE = 2;

/** Milliseconds within which two changes of a file may have the same timestamp. */
const RACY = 2000;

/** Compresses text files on request, and caches the result as long as the file does not change. */
export class CompressedFiles {
  readonly #kept = new Map<string, Buffer<ArrayBuffer>>();
  #bytes = 0;
  /** Compressions under way or waiting. */
  readonly #making = new Map<string, Promise<Buffer<ArrayBuffer>>>();
  #running = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #compress: typeof compressFile;
  readonly #limit: number;

  /** `limit`: bytes to keep. */
  constructor(compress: typeof compressFile = compressFile, limit = KEPT) {
    this.#compress = compress;
    this.#limit = limit;
  }

  /**
   * The coding in which a file is to be sent. None for a range request, which refers to the bytes of the plain file.
   */
  readonly codingFor = ({ field }: RequestHead, type: string, { size }: OpenFile): Encoding | undefined => {
    if (size < SIZES.least || size > SIZES.most || !COMPRESSIBLE.test(type) || field("range")) {
      return undefined;
    }
    return acceptedEncodings(field("accept-encoding"), MADE)[0];
  };

  /** If the plan has a coding to apply, replaces its file by the compressed bytes and closes the file. */
  async carryOut(
    plan: ResponsePlan,
    requestHead: RequestHead,
    resolved: ResolvedOptions,
  ): Promise<ResponsePlan> {
    const { coding, body, headers } = plan;
    if (coding === undefined || !isFileBody(body)) return plan;
    try {
      const bytes = await this.#get(body.file, coding);
      return { ...plan, body: bytes, headers: { ...headers, "Content-Length": String(bytes.length) } };
    } catch (error) {
      return planFailure(requestHead, resolved, failure(error));
    } finally {
      fs.closeSync(body.file.fd);
    }
  }

  async #get(file: OpenFile, coding: Encoding): Promise<Buffer<ArrayBuffer>> {
    const key = keyOf(file, coding);
    const kept = this.#kept.get(key);
    if (kept) {
      this.#kept.delete(key); // moves it to the end: most recently used
      this.#kept.set(key, kept);
      return kept;
    }
    const making = this.#making.get(key);
    if (making) return await making;
    const made = this.#make(file, coding).finally(() => this.#making.delete(key));
    this.#making.set(key, made);
    return await made;
  }

  async #make(file: OpenFile, coding: Encoding): Promise<Buffer<ArrayBuffer>> {
    while (this.#running >= AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running++;
    try {
      const began = Date.now();
      const bytes = await this.#compress(file, coding);
      // If the file was written during or just before the compression, it may have other bytes with the same
      // timestamp.
      if (!isChanging(file, began)) this.#keep(keyOf(file, coding), bytes);
      return bytes;
    } finally {
      this.#running--;
      this.#waiting.shift()?.();
    }
  }

  #keep(key: string, bytes: Buffer<ArrayBuffer>): void {
    if (bytes.length > this.#limit) return;
    this.#kept.set(key, bytes);
    this.#bytes += bytes.length;
    for (const [oldest, { length }] of this.#kept) {
      if (this.#bytes <= this.#limit) return;
      this.#kept.delete(oldest);
      this.#bytes -= length;
    }
  }
}

/** Everything that identifies a file's content. The change time (ctime) is included because programs cannot set it. */
function keyOf({ dev, ino, size, seconds, nanoseconds, changed }: OpenFile, { name }: Encoding): string {
  return `${dev} ${ino} ${size} ${seconds}.${nanoseconds} ${changed} ${name}`;
}

function isChanging({ fd, size, changed }: OpenFile, began: number): boolean {
  if (began - changed * 1000 < RACY) return true;
  const now = statDescriptor(fd);
  return now.size !== size || now.changed !== changed;
}
