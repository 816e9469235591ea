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
  const sample = file.content?.subarray(0, SAMPLE) ?? new Uint8Array(Math.min(SAMPLE, file.size));
  const told = (bytes: number) => isText(sample.subarray(0, bytes)) ? TEXT : { type: contentType(path) };
  if (file.content) return told(sample.length);
  const unreadable = () => ({ type: contentType(path) }); // the response will report the error
  try {
    const bytes = readAt(file, sample, 0);
    return typeof bytes === "number" ? told(bytes) : bytes.then(told, unreadable);
  } catch {
    return unreadable();
  }
}

/** Bytes of a file that are examined; browsers sniff the same number (MIME Sniffing standard, 5.2). */
const SAMPLE = 1445;

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Whether a file's first bytes are UTF-8 without control characters other than those of plain text. */
function isText(bytes: Uint8Array): boolean {
  try {
    // `stream`: the last character may be cut off.
    const text = utf8.decode(bytes, { stream: bytes.length === SAMPLE });
    // deno-lint-ignore no-control-regex
    return !/[\x00-\x08\x0e-\x1a\x1c-\x1f]/.test(text);
  } catch {
    return false; // not UTF-8
  } finally {
    reset();
  }
}

/** Resets the decoder, which keeps an incomplete character for its next call. */
function reset(): void {
  try {
    utf8.decode();
  } catch {
    // an incomplete character, now discarded
  }
}
