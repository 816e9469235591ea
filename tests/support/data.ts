import { assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "@std/path";
import { isBun } from "./harness.ts";

/** Bytes that repeat at no distance a test could be wrong by (xorshift32, fixed seed). */
export function bytes(length: number, seed = 1): Uint8Array {
  const out = new Uint8Array(length);
  let x = seed * 2654435761 >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    out[i] = x;
  }
  return out;
}

/** CPython's size: not aligned to anything. */
export const DATA: Uint8Array = bytes(1_114_113);

/** A new folder, removed by the caller. */
export function folder(): string {
  return fs.mkdtempSync(join(tmpdir(), "sendfile-"));
}

/** A file for one test: what is handed to `sendfile`, and what can be seen of it. */
export interface TestFile {
  readonly path: string;
  /** `Deno.FsFile` on Deno, whose position a transfer moves; on Bun the test's own descriptor, whose it must not. */
  readonly file: Deno.FsFile | number;
  /** Moves the position; once, and before any transfer. */
  seek(position: number): void;
  /** Fails unless the position is what a transfer leaves that came as far as `end`. */
  assertPosition(end: number): void;
  [Symbol.dispose](): void;
}

export function testFile(content: Uint8Array): TestFile {
  const dir = folder();
  const path = join(dir, "file.bin");
  fs.writeFileSync(path, content);
  const dispose = () => fs.rmSync(dir, { recursive: true });
  if (isBun) {
    const fd = fs.openSync(path, "r");
    let left = 0;
    return {
      path,
      file: fd,
      seek(position) {
        moveTo(fd, position);
        left = position;
      },
      assertPosition: () => assertEquals(positionOf(fd), left, "the descriptor's position was moved"),
      [Symbol.dispose]() {
        fs.closeSync(fd);
        dispose();
      },
    };
  }
  const file = Deno.openSync(path);
  return {
    path,
    file,
    seek: (position) => void file.seekSync(position, Deno.SeekMode.Start),
    assertPosition: (end) =>
      assertEquals(file.seekSync(0, Deno.SeekMode.Current), end, "the file's position"),
    [Symbol.dispose]() {
      file.close();
      dispose();
    },
  };
}

/** The position that the kernel keeps for a descriptor of this process. */
export function positionOf(fd: number): number {
  return Number(/^pos:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))![1]);
}

/** Moves a new descriptor of node:fs to `position`, by reading that far: node:fs has no seek. */
export function moveTo(fd: number, position: number): void {
  const sink = new Uint8Array(position);
  if (position > 0) assertEquals(fs.readSync(fd, sink, 0, position, null), position);
  assertEquals(positionOf(fd), position);
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Fails with the first place that differs: two megabytes in a message help nobody. */
export function assertBytes(actual: Uint8Array, expected: Uint8Array): void {
  const length = Math.min(actual.length, expected.length);
  for (let i = 0; i < length; i++) {
    if (actual[i] !== expected[i]) {
      throw new Error(
        `byte ${i} of ${actual.length}/${expected.length} is ${actual[i]}, expected ${expected[i]}`,
      );
    }
  }
  if (actual.length !== expected.length) {
    throw new Error(`${actual.length} bytes, expected ${expected.length}`);
  }
}

/** Resolves once `condition` holds; fails after ten seconds, and then says what was waited for. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`still not so after 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Descriptors of this process that are open, with what they are. */
export function descriptors(): string[] {
  return fs.readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [`${fd} ${fs.readlinkSync(`/proc/self/fd/${fd}`)}`];
    } catch {
      return []; // the folder's own, closed since
    }
  });
}

/** Paths below `directory` that this process has open; none where there is no /proc to tell. */
export function openBelow(directory: string): string[] {
  if (!fs.existsSync("/proc/self/fd")) return [];
  return descriptors().map((text) => text.slice(text.indexOf(" ") + 1)).filter((path) =>
    path.startsWith(directory)
  );
}
