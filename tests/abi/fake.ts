/** Darwin and FreeBSD as far as this package calls them, on Linux: `bsd.c`, built and loaded by their ABI files. */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { bunLoader } from "../../ffi/bun.ts";
import { darwin } from "../../ffi/darwin.ts";
import { denoLoader } from "../../ffi/deno.ts";
import { freebsd } from "../../ffi/freebsd.ts";
import type { Libc } from "../../ffi/libc.ts";
import type { Library, Symbols } from "../../ffi/library.ts";
import { loadLibc } from "../../ffi/load.ts";
import type { System } from "../../ffi/system.ts";
import { isBun } from "../support/harness.ts";

export type Name = "darwin" | "freebsd";

/** errno.h of both. */
export const EPERM = 1;
export const EINTR = 4;
export const EIO = 5;
export const EBADF = 9;
export const EBUSY = 16;
export const EAGAIN = 35;

/** `partial` of {@link Fake.script}: all that the call asks for. */
export const ALL = 2 ** 40;
/** `partial` of {@link Fake.script}: nothing, and the count is left as it was. */
export const UNTOUCHED = -1;

/** Why a test cannot run that needs `program`; undefined where it is there. */
export function missing(program: string): string | undefined {
  return spawnSync(program, ["--version"], { stdio: "ignore" }).error ? `no ${program}` : undefined;
}

/** Why these tests cannot run here. */
export const unavailable = process.platform !== "linux"
  ? "needs Linux"
  : process.arch !== "x64" && process.arch !== "arm64"
  ? `no ABI file for ${process.arch}`
  : missing("cc");

/** One call of sendfile as the library saw it. */
export interface Call {
  offset: number;
  count: number;
  moved: number;
}

const knobs: Symbols = {
  abi_reset: { args: [], returns: "i32" },
  abi_script: { args: ["i32", "i32", "i64"], returns: "i32" },
  abi_calls: { args: [], returns: "i32" },
  abi_call: { args: ["i32", "buffer"], returns: "i32" },
  abi_complaints: { args: [], returns: "i32" },
  abi_history: { args: ["buffer", "usize"], returns: "i32" },
  abi_inode_base: { args: ["i64"], returns: "i32" },
  abi_pair: { args: ["buffer", "i32"], returns: "i32" },
  abi_queues: { args: [], returns: "i32" },
  abi_knotes: { args: [], returns: "i32" },
  abi_inside: { args: [], returns: "i32" },
};

/** The library of one system, and the knobs of `bsd.c`. */
export class Fake {
  readonly libc: Libc;
  readonly #library: Library;

  constructor(readonly name: Name) {
    const file = build(name);
    const libc = loadLibc(system(name), [file]);
    assert(typeof libc !== "string", String(libc));
    this.libc = libc;
    // The same file again is the same instance: the knobs turn what `libc` calls.
    const library = (isBun ? bunLoader : denoLoader).load([file], knobs, {});
    assert(typeof library !== "string", String(library));
    this.#library = library;
  }

  /** Forgets scripts, calls and complaints. */
  reset(): void {
    this.#library.call.abi_reset();
  }

  /** What the sendfile call number `call` (from 1) comes to: an errno, after `partial` bytes really sent. */
  script(call: number, errno: number, partial: number): void {
    assertEquals(this.#library.call.abi_script(call, errno, this.#library.wide(partial)), 0);
  }

  /** All calls of sendfile since the reset. */
  calls(): Call[] {
    const out = new BigInt64Array(3);
    const bytes = new Uint8Array(out.buffer);
    return Array.from({ length: this.#library.call.abi_calls() }, (_, i) => {
      assertEquals(this.#library.call.abi_call(i + 1, bytes), 0);
      const [offset, count, moved] = Array.from(out, Number);
      return { offset, count, moved };
    });
  }

  /** How many arguments came that are never right; each is on standard error. */
  complaints(): number {
    return this.#library.call.abi_complaints();
  }

  /** In order: C cork, U uncork, S send, F sendfile. */
  history(): string {
    const bytes = new Uint8Array(4096);
    const length = this.#library.call.abi_history(bytes, this.#library.wide(bytes.length));
    return new TextDecoder().decode(bytes.subarray(0, length));
  }

  /** Adds to each inode number from now on. */
  inodeBase(base: number): void {
    this.#library.call.abi_inode_base(this.#library.wide(base));
  }

  /** A TCP connection that nobody but the caller reads or writes, and closes: both ends' descriptors. */
  pair(buffers = 0): [number, number] {
    const fds = new Int32Array(2);
    assertEquals(this.#library.call.abi_pair(fds, buffers), 0);
    return [fds[0], fds[1]];
  }

  /** Open kqueues. */
  queues(): number {
    return this.#library.call.abi_queues();
  }

  /** Filters on descriptors in them. */
  knotes(): number {
    return this.#library.call.abi_knotes();
  }

  /** Threads that wait in them. */
  inside(): number {
    return this.#library.call.abi_inside();
  }
}

function system(name: Name): System {
  return name === "darwin" ? darwin(process.arch === "arm64" ? "arm64" : "x64") : freebsd();
}

/** Where the libraries are, until the last test is over. */
let directory: string | undefined;

function removeDirectory(): void {
  if (directory) fs.rmSync(directory, { recursive: true, force: true });
  directory = undefined;
}

// Neither runtime tells its tests of process's "exit".
if (isBun) {
  const { afterAll } = process.getBuiltinModule("bun:test") as unknown as {
    afterAll(body: () => void): void;
  };
  afterAll(removeDirectory);
} else addEventListener("unload", removeDirectory);

function build(name: Name): string {
  directory ??= fs.mkdtempSync(join(tmpdir(), "sendfile-abi-"));
  const file = join(directory, `lib${name}.so`);
  const source = fromFileUrl(new URL("./bsd.c", import.meta.url));
  const flags = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"];
  const args = [...flags, `-D${name.toUpperCase()}`, "-o", file, source, "-ldl", "-pthread"];
  const { status, stderr } = spawnSync("cc", args, { encoding: "utf8" });
  assertEquals(status, 0, stderr);
  return file;
}

const fakes = new Map<Name, Fake>();

/** The one of this process, built on first use. */
export function fake(name: Name): Fake {
  let found = fakes.get(name);
  if (!found) fakes.set(name, found = new Fake(name));
  return found;
}
