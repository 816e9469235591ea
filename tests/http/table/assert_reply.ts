/** What must hold of a response, by its kind: the whole file, a part of it, 304, 405, 416, nothing at all. */
import { assert, assertEquals } from "@std/assert";
import type { Buffer } from "node:buffer";
import {
  assertSame,
  parseContentRange,
  parseMultipart,
  type Part,
  type Reply,
  type Span,
} from "../../support/http_client.ts";
import { LAST_MODIFIED, type Place } from "./place.ts";

/** Fields that depend on the connection and the clock. */
const INCIDENTAL = ["date", "connection", "keep-alive"];

export function essential(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !INCIDENTAL.includes(name)));
}

export function assertStrong(tag: string | undefined): void {
  assert(tag !== undefined && /^"[\x21\x23-\x7e]+"$/.test(tag), `a strong tag: ${tag}`);
}

export function assertWhole({ status, headers, body }: Reply, content: Buffer): void {
  assertEquals(status, 200);
  assertEquals(headers["content-range"], undefined);
  assertSame(body, content, "the whole");
}

export function assertUnsatisfiable({ status, headers }: Reply, size: number): void {
  assertEquals(status, 416);
  assertEquals(headers["content-range"], `bytes */${size}`);
}

/** `several`: more than one range was asked for, so that even one may come as a multipart body. */
export function assertPartial(reply: Reply, content: Buffer, spans: Span[], several: boolean): void {
  assertEquals(reply.status, 206);
  assertStrong(reply.headers.etag);
  assertEquals(reply.headers["last-modified"], LAST_MODIFIED);
  const parts = partsOf(reply);
  assert(several || parts === undefined, "one range, no multipart");
  assert(spans.length === 1 || parts !== undefined, "several ranges, one body");
  const single = () => ({ ...parseContentRange(reply.headers["content-range"]), body: reply.body });
  const got = parts ?? [{ ...single(), type: reply.headers["content-type"] }];
  assertEquals(got.map(({ span }) => span), spans);
  for (const { span: [first, last], size, type, body } of got) {
    assertEquals([size, type], [content.length, "application/octet-stream"]);
    assertSame(body, content.subarray(first, last + 1), `${first}-${last}`);
  }
}

export function partsOf({ headers, body }: Reply): Part[] | undefined {
  const type = headers["content-type"] ?? "";
  if (!type.startsWith("multipart/")) return undefined;
  assertEquals(headers["content-range"], undefined);
  return parseMultipart(type, body);
}

export function assertNotModified({ status, headers }: Reply): void {
  assertEquals(status, 304);
  assertStrong(headers.etag);
  for (const name of ["content-length", "content-type", "content-range", "content-encoding"]) {
    assertEquals(headers[name], undefined, name);
  }
}

export function assertAllow(field: string | undefined): void {
  assertEquals(new Set((field ?? "").split(/, */)), new Set(["GET", "HEAD", "OPTIONS"]));
}

/**
 * Refused, with nothing from outside of the root.
 * Bun.serve resolves `..` before its handler sees it: a file of the root may come.
 */
export function assertOutside({ kind }: Place, target: string, { status, headers, body }: Reply): void {
  assert(!body.includes("SECRET") && !body.includes("root:"), target);
  assert(!/^(\/\/|\/\\|\w+:)/.test(headers.location ?? ""), `${target} leads to ${headers.location}`);
  if (kind.name === "Bun.serve") return;
  assert(status === 404 || status === 400, `${target}: ${status}`);
}
