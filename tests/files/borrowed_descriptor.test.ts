/** The descriptor that is found for a `Deno.FsFile` may be another Worker's, which closes it at any moment. */
import { assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { Worker } from "node:worker_threads";
import { join } from "@std/path";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc, replaceLibc } from "../../ffi/load.ts";
import { sendfile, sendfileStats } from "../../mod.ts";
import { assertBytes, bytes, folder, until } from "../support/data.ts";
import { faulty } from "../support/faults.ts";
import { test } from "../support/harness.ts";
import { raw } from "../support/pairs.ts";

const LENGTH = 512 * 1024;

/** Two files of one size, and a folder that goes with them. */
function twoFiles(length: number) {
  const dir = folder();
  const [a, b] = ["a", "b"].map((name) => join(dir, name));
  const [ofA, ofB] = [bytes(length, 1), bytes(length, 2)];
  fs.writeFileSync(a, ofA);
  fs.writeFileSync(b, ofB);
  return { a, b, ofA, [Symbol.dispose]: () => fs.rmSync(dir, { recursive: true }) };
}

/** Opens `path` at a number that is free now. */
function openAt(fd: number, path: string): void {
  assertEquals(fs.openSync(path, "r"), fd, "not the lowest free number");
}

for (const moment of ["before", "after"] as const) {
  test(`a number that another file has ${moment} it was duplicated sends none of that file`, async () => {
    using files = twoFiles(LENGTH);
    const borrowed = fs.openSync(files.a, "r"); // has a lower number than what is opened next, and so is met first
    const file = Deno.openSync(files.a);
    const pair = await raw.open();
    const libc: Libc = faulty({});
    const dup = libc.dup.bind(libc);
    const change = () => {
      fs.closeSync(borrowed);
      openAt(borrowed, files.b);
    };
    let changed = 0;
    libc.dup = (fd) => {
      if (fd !== borrowed || changed++) return dup(fd);
      if (moment === "before") change();
      const result = dup(fd);
      if (moment === "after") change();
      return result;
    };
    const previous = loadLibc();
    replaceLibc(libc);
    try {
      const all = pair.peer.all();
      assertEquals(await sendfile(pair.socket, file), files.ofA.length);
      assertEquals(changed > 0, true, "the number was not borrowed");
      pair.end();
      assertBytes(await all, files.ofA);
    } finally {
      replaceLibc(previous);
      fs.closeSync(borrowed);
      file.close();
      pair.close();
    }
  }, { only: "deno" });
}

const OPENS_IN_TURN = `
const fs = require("node:fs");
const { workerData: { a, b, stop } } = require("node:worker_threads");
while (Atomics.load(stop, 0) === 0) {
  for (const path of [a, b]) fs.closeSync(fs.openSync(path, "r"));
  Atomics.add(stop, 1, 1);
}`;

test(
  "transfers of a file that a Worker opens and closes in turn with another hold only its bytes",
  async () => {
    using files = twoFiles(LENGTH);
    const stop = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(OPENS_IN_TURN, { eval: true, workerData: { ...files, stop } });
    const ended = new Promise((resolve) => worker.once("exit", resolve));
    const pair = await raw.open();
    const before = sendfileStats();
    try {
      await until("the Worker runs", () => Atomics.load(stop, 1) > 0);
      const transfers = 20;
      for (let i = 0; i < transfers; i++) {
        const file = Deno.openSync(files.a);
        const arrived = pair.peer.atLeast((i + 1) * LENGTH);
        assertEquals(await sendfile(pair.socket, file), LENGTH);
        await arrived;

        file.close();
      }
      const received = pair.peer.received;
      assertEquals(received.length, transfers * LENGTH);
      for (let i = 0; i < transfers; i++) {
        assertBytes(received.subarray(i * LENGTH, (i + 1) * LENGTH), files.ofA);
      }
      assertEquals(sendfileStats().sendfile.transfers > before.sendfile.transfers, true, "all were copied");
    } finally {
      Atomics.store(stop, 0, 1);
      await ended;
      pair.close();
    }
  },
  { only: "deno" },
);
