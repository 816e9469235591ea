/**
 * CPython's own tests of sendfile, ported. Each of their cases has a number here, CP-001 to CP-080; a test's name begins
 * with the numbers of the cases that it ports. This file has what all of them use.
 */
import { assertEquals } from "@std/assert";
import type { Libc } from "../../../ffi/libc.ts";
import { replaceLibc } from "../../../ffi/load.ts";
import { sendfile, type SendfileFile, type SendfileOptions, sendfileStats } from "../../../mod.ts";
import { type TestFile, testFile } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import type { Kind, Pair } from "../../support/pair.ts";

type Way = "sendfile" | "copy";

/** Registers a test of what must be the same by sendfile(2) and by copy. */
export function both(id: string, name: string, body: (way: Way) => Promise<void>): void {
  for (const way of ["sendfile", "copy"] as const) test(`${id} ${name} [${way}]`, () => body(way));
}

export function one(id: string, name: string, body: () => void | Promise<void>): void {
  test(`${id} ${name}`, body);
}

/** Calls `sendfile`, and proves by the counters that it went this way alone. */
export async function send(
  way: Way,
  socket: Pair["socket"],
  file: SendfileFile,
  options: SendfileOptions = {},
): Promise<number> {
  const before = sendfileStats();
  const ways: string[] = [];
  let sent = -1;
  try {
    sent = await sendfile(socket, file, {
      zeroCopy: way === "sendfile",
      onStart: ({ via }) => ways.push(via),
      ...options,
    });
    return sent;
  } finally {
    const after = sendfileStats();
    const other = way === "sendfile" ? "copy" : "sendfile";
    assertEquals(after[other].bytes, before[other].bytes, `bytes went by ${other}`);
    assertEquals(ways.filter((via) => via !== way), [], "the way that onStart named");
    if (sent >= 0) assertEquals(after[way].bytes - before[way].bytes, sent, "the counter's bytes");
  }
}

/** A pair and a file for one test, closed after it. */
export async function on(
  kind: Kind,
  content: Uint8Array,
  body: (pair: Pair, file: TestFile) => Promise<void>,
  small = false,
): Promise<void> {
  using file = testFile(content);
  const pair = await kind.open({ small });
  try {
    await body(pair, file);
  } finally {
    pair.close();
  }
}

/** Runs `body` with the C library replaced. */
export async function withLibc<T>(replacement: Libc | string, body: () => Promise<T>): Promise<T> {
  replaceLibc(replacement);
  try {
    return await body();
  } finally {
    replaceLibc(undefined);
  }
}

export const SMALL = true;
