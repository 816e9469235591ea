import { Buffer } from "node:buffer";
import type { SendfileOptions } from "../../transfer/options.ts";
import type { FileBody } from "../root/open_file.ts";
import { stallLimit } from "./stall.ts";

/** Converts a body's parts to options for `sendParts`; `head` is sent before the first part. */
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

const utf8 = new TextEncoder();

/**
 * Encodes a head in Latin-1. Deno's Buffer does that in JavaScript and is slow, so it is used only if the head is not
 * plain ASCII.
 */
export function bytesOf(head: string): Uint8Array {
  const bytes = utf8.encode(head);
  return bytes.length === head.length ? bytes : Buffer.from(head, "latin1");
}
