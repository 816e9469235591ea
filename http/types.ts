// @ts-types="npm:@types/mime-types@^3.0.1"
import mime from "mime-types";
import { extname } from "node:path";
import * as fs from "node:fs";
import type { OpenFile } from "./file.ts";
import { RecentMap } from "./recent_map.ts";

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
export function contentOf({ path, fd }: Pick<OpenFile, "path" | "fd">): Content {
  if (/\.svgz$/i.test(path)) return SVGZ;
  return extname(path) === "" && beginsAsText(fd) ? TEXT : { type: contentType(path) };
}

/** Bytes of a file that are looked at; a browser that sniffs takes as many (MIME Sniffing standard, 5.2). */
const SAMPLE = 1445;

const sample = new Uint8Array(SAMPLE);
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Whether a file begins with UTF-8 without control characters other than those of plain text. */
function beginsAsText(fd: number): boolean {
  try {
    const bytes = sample.subarray(0, fs.readSync(fd, sample, 0, SAMPLE, 0));
    // `stream`: the last character may be cut off.
    const text = utf8.decode(bytes, { stream: bytes.length === SAMPLE });
    // deno-lint-ignore no-control-regex
    return !/[\x00-\x08\x0e-\x1a\x1c-\x1f]/.test(text);
  } catch {
    return false; // not UTF-8, or not readable: the response itself will say so
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
