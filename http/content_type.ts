// @ts-types="npm:@types/mime-types@^3.0.1"
import mime from "mime-types";
import { extname } from "node:path";
import { readAt } from "../files/read_file.ts";
import type { OpenFile } from "./root/open_file.ts";
import { RecentMap } from "../recent_map.ts";

/** What a file holds, as its name says. */
export interface Content {
  readonly type: string;
  /** The content coding that files of the name are in. */
  readonly coding?: string;
}

const BINARY = "application/octet-stream";
const TEXT: Content = { type: "text/plain; charset=utf-8" };

/** SVG compressed with gzip, which browsers show only where the coding is named (SVG 1.1, 1.2). */
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
 * As {@link contentType}, of an open file. A name without an extension (LICENSE, Makefile) tells nothing, so the file's
 * first bytes do: text is shown and not downloaded.
 */
export function contentOf(file: Pick<OpenFile, "path" | "fd" | "ino" | "size">): Content | Promise<Content> {
  const { path } = file;
  if (/\.svgz$/i.test(path)) return SVGZ;
  if (extname(path) !== "") return { type: contentType(path) };
  const sample = new Uint8Array(Math.min(SAMPLE, file.size));
  const told = (bytes: number) => isText(sample.subarray(0, bytes)) ? TEXT : { type: contentType(path) };
  const unreadable = () => ({ type: contentType(path) }); // the response itself will say so
  try {
    const bytes = readAt(file, sample, 0);
    return typeof bytes === "number" ? told(bytes) : bytes.then(told, unreadable);
  } catch {
    return unreadable();
  }
}

/** Bytes of a file that are looked at; a browser that sniffs takes as many (MIME Sniffing standard, 5.2). */
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

/** A decoder that has been stopped in a character keeps it for the next call. */
function reset(): void {
  try {
    utf8.decode();
  } catch {
    // an unfinished character, which is gone now
  }
}
