/**
 * What the tests of the Darwin and FreeBSD ABI files share. They run on Linux against a C library that has those systems'
 * call shapes, structs and numbers, and ends calls of sendfile as their kernels do (`bsd.c`).
 */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { replaceLibc } from "../../ffi/load.ts";
import { sendfile, type SendfileOptions } from "../../mod.ts";
import { assertBytes, bytes, concat, testFile } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { nodeAccepted } from "../support/pairs_node.ts";
import { type Call, type Fake, fake, type Name, unavailable } from "./fake.ts";

/** Bytes that any socket's buffer takes at once. */
export const LITTLE = bytes(10_007, 2);

export const HEADER = bytes(311, 3);
export const TRAILER = bytes(97, 4);

export const GIB4 = 2 ** 32;

/** Registers a test of one system. It also fails if the library was called with arguments that are never valid. */
export function abi(
  name: Name,
  title: string,
  body: (f: Fake) => void | Promise<void>,
  { skip = unavailable }: { skip?: string } = {},
): void {
  test(`${name}: ${title}`, async () => {
    const f = fake(name);
    f.reset();
    try {
      await body(f);
    } finally {
      replaceLibc(undefined);
    }
    assertEquals(f.complaints(), 0, "arguments that are never right; see standard error");
  }, { skip });
}

/** Each call starts where the bytes of the one before it ended: none is sent twice, none left out. */
export function assertContiguous(calls: Call[], start = 0): void {
  let at = start;
  for (const { offset, moved } of calls) {
    assertEquals(offset, at, JSON.stringify(calls));
    at += moved;
  }
}

/** Sends `content` through `f` and compares what arrives with all of it. */
export async function transfer(
  f: Fake,
  content: Uint8Array,
  { open = nodeAccepted, options = {} }: { open?: typeof nodeAccepted; options?: SendfileOptions } = {},
): Promise<Call[]> {
  using file = testFile(content);
  const pair = await open.open({ small: true });
  try {
    replaceLibc(f.libc);
    const received = pair.peer.all();
    const sent = await sendfile(pair.socket, file.file, { fallback: false, ...options });
    assertEquals(sent, content.length);
    pair.end();
    const { header = new Uint8Array(0), trailer = new Uint8Array(0) } = options;
    // The body of node:http's answer: its head came before the transfer.
    const all = await received;
    assertBytes(
      all.subarray(all.length - header.length - content.length - trailer.length),
      concat(header, content, trailer),
    );
  } finally {
    replaceLibc(undefined);
    pair.close();
  }
  const calls = f.calls();
  assertContiguous(calls);
  return calls;
}

/** The two ends of a connection for calls of `Libc` itself. */
interface Ends {
  /** The end under test. */
  fd: number;
  /** The other end, which is read only by this. */
  peer: number;
  /** Reads `length` bytes at the other end. */
  read(length: number): Uint8Array;
  /** Ends the end under test, and reads all that is left at the other. */
  rest(): Uint8Array;
}

export async function withSocket(
  f: Fake,
  body: (ends: Ends) => void | Promise<void>,
  { small = false }: { small?: boolean } = {},
): Promise<void> {
  // Smaller ones than 16 KiB meet loopback's 64 KiB segments.
  const [fd, peer] = f.pair(small ? 32768 : 0);
  const read = (length: number) => {
    const parts: Uint8Array[] = [];
    for (let left = length; left > 0;) {
      const part = new Uint8Array(Math.min(left, 65536));
      assert(
        f.libc.block(peer, "readable", 10_000),
        `nothing to read for 10 s, ${left} of ${length} bytes left`,
      );
      const bytes = f.libc.library.call.read(peer, part, f.libc.library.wide(part.length));
      assert(bytes >= 0, "read");
      if (bytes === 0) break;
      parts.push(part.subarray(0, bytes));
      left -= bytes;
    }
    return concat(...parts);
  };
  try {
    await body({
      fd,
      peer,
      read,
      rest() {
        f.libc.shutdown(fd);
        return read(Infinity);
      },
    });
  } finally {
    f.libc.close(fd);
    f.libc.close(peer);
  }
}

/** An open file, for calls of `Libc` itself. */
export async function withFile(
  content: Uint8Array,
  body: (fd: number) => void | Promise<void>,
): Promise<void> {
  using file = testFile(content);
  const fd = fs.openSync(file.path, "r");
  try {
    await body(fd);
  } finally {
    fs.closeSync(fd);
  }
}

export function errorName(f: Fake, result: number): string {
  assert(result < 0, `${result} is no error`);
  return f.libc.errorName(result);
}

/** Sends until the socket is full, and stays so while the peer does not read; returns how much that was. */
export function fill(f: Fake, fd: number, content: Uint8Array): number {
  let sent = 0;
  do {
    const result = f.libc.send(fd, content.subarray(sent), false);
    if (result < 0) assertEquals(errorName(f, result), "EAGAIN");
    else sent += result;
    assert(sent < content.length, "the socket takes it all");
  } while (f.libc.block(fd, "writable", 50)); // what the peer's buffer takes makes room here
  return sent;
}
