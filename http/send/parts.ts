import { Buffer } from "node:buffer";
import type { SendfileOptions } from "../../transfer/options.ts";
import type { FileBody } from "../root/open_file.ts";
import { stallLimit } from "./stall.ts";

/** A body's parts as `sendParts` takes them; `head` goes before the first. */
export function optionsOf(
  { parts, trailer }: FileBody,
  rateLimit: number | undefined,
  head = "",
  signal?: AbortSignal,
): SendfileOptions[] {
  return parts.map(({ header, offset, count }, i) => {
    const before = i === 0 ? head + header : header;
    return {
      offset,
      count,
      header: before === "" ? undefined : bytesOf(before),
      trailer: i === parts.length - 1 && trailer !== "" ? bytesOf(trailer) : undefined,
      rateLimit,
      signal,
      timeout: stallLimit(),
    };
  });
}

/** Bytes of the file in all parts. */
export function countOf({ parts }: FileBody): number {
  return parts.reduce((sum, { count }) => sum + count, 0);
}

const utf8 = new TextEncoder();

/** The bytes of a head: Latin-1. Deno's Buffer goes through it in JavaScript, so only where it is not plain ASCII. */
export function bytesOf(head: string): Uint8Array {
  const bytes = utf8.encode(head);
  return bytes.length === head.length ? bytes : Buffer.from(head, "latin1");
}
