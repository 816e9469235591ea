import type { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { planFailure, type RequestHead, type ResponsePlan } from "../http/file_response.ts";
import type { ResolvedOptions } from "../http/options.ts";
import { acceptedEncodings, type Encoding } from "../http/rfc9110/content_coding.ts";
import { failure, isFileBody, type OpenFile, statDescriptor } from "../http/root/open_file.ts";
import { compressFile, MADE } from "./compress.ts";

/** Bytes of a file that is compressed: a smaller one fits into a packet anyway, a larger one takes too much memory. */
const SIZES = { least: 1024, most: 8 * 1024 * 1024 };

/** Types that are text, or as good as. */
const COMPRESSIBLE =
  /^(?:text\/(?!event-stream)|application\/(?:.+\+)?(?:json|xml|javascript|wasm|x-ndjson|rtf|manifest)|image\/(?:svg\+xml|bmp|x-icon|vnd\.microsoft\.icon)|font\/(?:ttf|otf))\b/;

/** Bytes of compressed files that are kept. */
const KEPT = 64 * 1024 * 1024;

/** Files that are compressed at once. The others wait, each with its descriptor. */
const AT_ONCE = 2;

/** Milliseconds for which a change may be followed by another one that has the same time. */
const RACY = 2000;

/** Compresses text when it is asked for, and keeps what it has made for as long as the file does not change. */
export class CompressedFiles {
  readonly #kept = new Map<string, Buffer<ArrayBuffer>>();
  #bytes = 0;
  /** What is being made, or waits for that. */
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

  /** The coding in which a file is to be sent: none for a part of it, as its bytes are those of the file. */
  readonly codingFor = ({ field }: RequestHead, type: string, { size }: OpenFile): Encoding | undefined => {
    if (size < SIZES.least || size > SIZES.most || !COMPRESSIBLE.test(type) || field("range")) {
      return undefined;
    }
    return acceptedEncodings(field("accept-encoding"), MADE)[0];
  };

  /** The plan with the file's bytes in its coding, if it has one to be made. Closes the file then. */
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
      this.#kept.delete(key); // the last one again
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
      // Written to meanwhile, or a moment before, the file may hold other bytes at the same time of change.
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

/** All that tells a file's content from another one: the time of the last change of its state cannot be set. */
function keyOf({ dev, ino, size, seconds, nanoseconds, changed }: OpenFile, { name }: Encoding): string {
  return `${dev} ${ino} ${size} ${seconds}.${nanoseconds} ${changed} ${name}`;
}

function isChanging({ fd, size, changed }: OpenFile, began: number): boolean {
  if (began - changed * 1000 < RACY) return true;
  const now = statDescriptor(fd);
  return now.size !== size || now.changed !== changed;
}
