/** What is no regular file that can be read: refused by its name, and nothing is sent. */
import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { pathToFileURL } from "node:url";
import { openSource } from "../../files/source.ts";
import {
  sendfile,
  type SendfileFile,
  SendfileNotAvailableError,
  SendfileRegion,
  sendfileSync,
} from "../../mod.ts";
import { assertBytes, DATA, folder, openBelow, testFile } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { raw } from "../support/pairs.ts";
import { bun } from "./bun_file.ts";

test("a FIFO does not hold up the open, and is refused", async () => {
  const dir = folder();
  const fifo = join(dir, "fifo");
  execFileSync("mkfifo", [fifo]);
  const pair = await raw.open();
  try {
    const error = await assertRejects(() => sendfile(pair.socket, fifo), SendfileNotAvailableError);
    assertEquals(error.reason, "not a regular file");
    pair.end();
    assertEquals((await pair.peer.all()).length, 0);
  } finally {
    pair.close();
    fs.rmSync(dir, { recursive: true });
  }
});

/** A directory as each kind of file argument, and what the error has to call it. */
const directories: Record<string, (path: string) => [SendfileFile, name: string, close?: () => unknown]> = {
  "a path": (path) => [path, path],
  "a file: URL": (path) => [pathToFileURL(path), path],
  "a SendfileRegion": (path) => [new SendfileRegion(path, 10, 20), path],
  "a descriptor": (path) => {
    const fd = fs.openSync(path, "r");
    return [fd, `the descriptor ${fd}`, () => fs.closeSync(fd)];
  },
  ...(isBun ? { "Bun.file": (path: string): [SendfileFile, string] => [bun.file(path), path] } : {
    "Deno.FsFile": (path: string): [SendfileFile, string, () => unknown] => {
      const file = Deno.openSync(path);
      return [file, "the Deno.FsFile", () => file.close()];
    },
  }),
};

for (const [name, open] of Object.entries(directories)) {
  test(`${name} of a directory is an error that says so, both ways`, async () => {
    const dir = folder();
    const pair = await raw.open();
    const [file, called, close] = open(dir);
    try {
      const checks: (() => unknown)[] = [
        () => sendfile(pair.socket, file),
        () => sendfile(pair.socket, file, { zeroCopy: false }),
        () => Promise.try(() => sendfileSync(pair.socket, file)),
        () => Promise.try(() => openSource(file, undefined)), // without FFI
      ];
      for (const check of checks) {
        const error = await assertRejects(check as () => Promise<unknown>, SendfileNotAvailableError);
        assertEquals(
          [error.message, error.reason, error.sent],
          [`${called} is a directory`, "not a regular file", 0],
        );
      }
      pair.end();
      assertEquals((await pair.peer.all()).length, 0);
    } finally {
      close?.();
      pair.close();
      assertEquals(openBelow(dir), []);
      fs.rmSync(dir, { recursive: true });
    }
  });
}

test("a descriptor's number that has become a pipe since is refused, and sends nothing", async () => {
  using file = testFile(DATA);
  const dir = folder();
  const fifo = join(dir, "fifo");
  execFileSync("mkfifo", [fifo]);
  const pair = await raw.open();
  const fd = fs.openSync(file.path, "r");
  await sendfile(pair.socket, fd, { count: 10 });
  fs.closeSync(fd);
  const others: number[] = [];
  while (!others.includes(fd)) others.push(fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK));
  fs.writeSync(fd, "not for you");
  const error = await assertRejects(
    () => sendfile(pair.socket, fd, { count: 10 }),
    SendfileNotAvailableError,
  );
  assertEquals(error.reason, "not a regular file");
  pair.end();
  assertBytes(await pair.peer.all(), DATA.subarray(0, 10));
  for (const other of others) fs.closeSync(other);
  pair.close();
  fs.rmSync(dir, { recursive: true });
});

test("a write-only descriptor is an error, and sends nothing", async () => {
  using file = testFile(DATA);
  const pair = await raw.open();
  const fd = fs.openSync(file.path, "r+");
  const writeOnly = fs.openSync(file.path, "a");
  try {
    const error = await assertRejects(() => sendfile(pair.socket, writeOnly));
    assertEquals((error as { code?: string }).code, "EBADF");
    pair.end();
    assertEquals((await pair.peer.all()).length, 0);
  } finally {
    fs.closeSync(fd);
    fs.closeSync(writeOnly);
    pair.close();
  }
});
