/** Shared parts of the JavaScript servers: the files, and the same minimal HTTP as in server.c. */
import * as fs from "node:fs";
import { basename } from "node:path";
import type { SendfileOptions } from "../mod.ts";
import { pad } from "./fields.mjs";

/** A served file. It is opened once, and its head is made once. */
export interface Served {
  readonly fd: number;
  readonly options: SendfileOptions;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The head of a response with a body of `size` bytes: without a pad the same bytes as server.c's. */
export function head(size: number): Uint8Array<ArrayBuffer> {
  const fields = { "Content-Length": String(size), "Content-Type": "application/octet-stream", ...pad };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return encoder.encode(`HTTP/1.1 200 OK\r\n${lines.join("")}\r\n`);
}

/** The files by request path. */
export function openServed(paths: readonly string[]): Map<string, Served> {
  return new Map(paths.map((path) => {
    const fd = fs.openSync(path, "r");
    const count = fs.fstatSync(fd).size;
    // Without fallback, so that only sendfile(2) is measured.
    return [`/${basename(path)}`, { fd, options: { header: head(count), count, fallback: false } }];
  }));
}

/** Whether the first `length` bytes are a whole request, from a client that does not pipeline. */
export function isComplete(request: Uint8Array, length: number): boolean {
  // ends with "\r\n\r\n"
  return length >= 4 && request[length - 1] === 10 && request[length - 2] === 13 &&
    request[length - 3] === 10 && request[length - 4] === 13;
}

/** The path of `GET /path HTTP/1.1`. */
export function pathOf(request: Uint8Array): string {
  return decoder.decode(request.subarray(4, request.indexOf(32, 4)));
}
