// @ts-types="npm:@types/mime-types@^3.0.1"
import mime from "mime-types";
import { extname } from "node:path";
import { readAt } from "../files/read_file.ts";
import type { OpenFile } from "./root/open_file.ts";
import { RecentMap } from "../recent_map.ts";

/** The content type and coding of a file, according to its name. */
export interface Content {
  readonly type: string;
  /** The content coding of files with such a name. */
  readonly coding?: string;
}

const BINARY = "application/octet-stream";
const TEXT: Content = { type: "text/plain; charset=utf-8" };

/** SVG compressed with gzip; browsers show it only with Content-Encoding (SVG 1.1, 1.2). */
const SVGZ: Content = { type: "image/svg+xml", coding: "gzip" };

const known = new RecentMap<string, string>(1000);

/** The `Content-Type` of a file by its name's extension, with the charset for text. */
export function contentType(path: string): string {
  const extension = extname(path);
  let type = known.get(extension);
  if (type === undefined) {
    known.set(extension, type = (extension && mime.contentType(extension)) || BINARY);
  }
  return type;
}

/**
 * As {@link contentType}, for an open file. If the name has no extension (LICENSE, Makefile), the file's first bytes
 * decide, so that browsers show text instead of downloading it.
 */
export function contentOf(
  file: Pick<OpenFile, "path" | "fd" | "ino" | "size" | "content">,
): Content | Promise<Content> {
  const { path } = file;
  if (/\.svgz$/i.test(path)) return SVGZ;
  if (extname(path) !== "") return { type: contentType(path) };
  if (file.content) return contentOfBytes(file.content, path);
  const sample = new Uint8Array(Math.min(SAMPLE, file.size));
  const told = (bytes: number) => isText(sample.subarray(0, bytes)) ? TEXT : { type: contentType(path) };
  const unreadable = () => ({ type: contentType(path) }); // the response will report the error
  try {
    const bytes = readAt(file, sample, 0);
    return typeof bytes === "number" ? told(bytes) : bytes.then(told, unreadable);
  } catch {
    return unreadable();
  }
}

/** The results for bytes that are kept (small_file_cache.ts): the examination takes as long as all the rest. */
const contents = new WeakMap<Uint8Array, Content>();

function contentOfBytes(bytes: Uint8Array, path: string): Content {
  let content = contents.get(bytes);
  if (!content) {
    content = isText(bytes.subarray(0, SAMPLE)) ? TEXT : { type: contentType(path) };
    contents.set(bytes, content);
  }
  return content;
}

/** Bytes of a file that are examined; browsers sniff the same number (MIME Sniffing standard, 5.2). */
const SAMPLE = 1445;

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Whether a file's first bytes are UTF-8 without control characters other than those of plain text. */
function isText(bytes: Uint8Array): boolean {
  // Most binary files end here; the decoder's exception for them takes 20 µs (measured).
  if (bytes.some(isControl)) return false;
  try {
    // `stream`: the last character may be cut off.
    utf8.decode(bytes, { stream: bytes.length === SAMPLE });
    return true;
  } catch {
    return false; // not UTF-8
  } finally {
    reset();
  }
}

/** Whether a byte is a control character that plain text does not have. In UTF-8 no longer character contains one. */
function isControl(byte: number): boolean {
  return byte < 0x20 && (byte < 0x09 || (byte > 0x0d && byte !== 0x1b));
}

/** Resets the decoder, which keeps an incomplete character for its next call. */
function reset(): void {
  try {
    utf8.decode();
  } catch {
    // an incomplete character, now discarded
  }
}
