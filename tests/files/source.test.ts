/** Every kind of file argument, by sendfile(2) and by copy; positions, sizes that are not known, and more than 4 GiB. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import { pathToFileURL } from "node:url";
import { sendfile, type SendfileFile, SendfileRegion, sendfileStats } from "../../mod.ts";
import { assertBytes, concat, DATA, folder, moveTo, positionOf, testFile } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { onlyBy } from "../support/helpers.ts";
import { raw } from "../support/pairs.ts";
import { nodeAccepted } from "../support/pairs_node.ts";
import { bun } from "./bun_file.ts";

interface Case {
  name: string;
  /** Opens the argument; gives it, and how to close it. */
  open(path: string): Promise<{ file: SendfileFile; close?: () => unknown }>;
  /** The bytes it stands for. */
  content: Uint8Array;
  native: boolean;
}

const opened = <T extends SendfileFile>(file: T, close?: () => unknown) => Promise.resolve({ file, close });

const cases: Case[] = [
  { name: "a path", open: (path) => opened(path), content: DATA, native: true },
  { name: "a file: URL", open: (path) => opened(pathToFileURL(path)), content: DATA, native: true },
  {
    name: "a descriptor of node:fs",
    open: (path) => {
      const fd = fs.openSync(path, "r");
      return opened(fd, () => fs.closeSync(fd));
    },
    content: DATA,
    native: true,
  },
  {
    name: "a FileHandle",
    open: async (path) => {
      const handle = await fs.promises.open(path);
      return opened(handle, () => handle.close());
    },
    content: DATA,
    native: true,
  },
  { name: "a SendfileRegion", open: (path) => opened(new SendfileRegion(path)), content: DATA, native: true },
  {
    name: "a SendfileRegion with offset and count",
    open: (path) => opened(new SendfileRegion(path, 1001, 500_000)),
    content: DATA.subarray(1001, 501_001),
    native: true,
  },
  {
    name: "a Blob in memory",
    open: () => opened(new Blob([DATA as BlobPart])),
    content: DATA,
    native: false,
  },
];
if (isBun) {
  cases.push(
    { name: "Bun.file", open: (path) => opened(bun.file(path)), content: DATA, native: true },
    {
      name: "a slice of Bun.file with a start",
      open: (path) => opened(bun.file(path).slice(12_345)),
      content: DATA.subarray(12_345),
      native: true,
    },
    {
      name: "a slice of Bun.file with both ends",
      open: (path) => opened(bun.file(path).slice(10, 700_010)),
      content: DATA.subarray(10, 700_010),
      native: true,
    },
    {
      name: "a slice of a slice of Bun.file",
      open: (path) => opened(bun.file(path).slice(10, 700_010).slice(5, 600_000)),
      content: DATA.subarray(15, 600_010),
      native: true,
    },
    {
      name: "Bun.file of a descriptor",
      open: (path) => {
        const fd = fs.openSync(path, "r");
        return opened(bun.file(fd), () => fs.closeSync(fd));
      },
      content: DATA,
      native: false,
    },
  );
} else {
  cases.push({
    name: "Deno.FsFile",
    open: async (path) => {
      const file = await Deno.open(path);
      return opened(file, () => file.close());
    },
    content: DATA,
    native: true,
  });
}

for (const { name, open, content, native } of cases) {
  for (const zeroCopy of [true, false]) {
    const expected = native && zeroCopy ? "sendfile" : "copy";
    test(`${name} is sent by ${expected}${zeroCopy ? "" : " when asked to"}`, async () => {
      using made = testFile(DATA);
      const pair = await raw.open({ small: true });
      const { file, close } = await open(made.path);
      try {
        const before = sendfileStats();
        const all = pair.peer.all();
        assertEquals(await sendfile(pair.socket, file, { zeroCopy }), content.length);
        const part = { zeroCopy, offset: 333, count: 4444 };
        assertEquals(await sendfile(pair.socket, file, part), 4444);
        assertEquals(
          await sendfile(pair.socket, file, { zeroCopy, offset: content.length - 5, count: 100 }),
          5,
        );
        pair.end();
        assertBytes(
          await all,
          concat(content, content.subarray(333, 4777), content.subarray(content.length - 5)),
        );
        const after = sendfileStats();
        const reasons = JSON.stringify(after.reasons);
        assertEquals(after[expected].transfers - before[expected].transfers, 3, reasons);
        assertEquals(after[expected].bytes - before[expected].bytes, content.length + 4449, reasons);
      } finally {
        await close?.();
        pair.close();
      }
    });
  }
}

test("the position of a descriptor and of a FileHandle is neither used nor moved", async () => {
  using made = testFile(DATA);
  const fd = fs.openSync(made.path, "r");
  const handle = await fs.promises.open(made.path);
  try {
    for (const [file, number] of [[fd, fd], [handle, handle.fd]] as const) {
      moveTo(number, 123);
      for (const zeroCopy of [true, false]) {
        const pair = await raw.open({ small: true });
        const all = pair.peer.all();
        await onlyBy(zeroCopy ? "sendfile" : "copy", async () => {
          assertEquals(await sendfile(pair.socket, file, { zeroCopy }), DATA.length);
          assertEquals(await sendfile(pair.socket, file, { zeroCopy, offset: 50, count: 100 }), 100);
        });
        assertEquals(positionOf(number), 123);
        pair.end();
        assertBytes(await all, concat(DATA, DATA.subarray(50, 150)));
        pair.close();
      }
    }
  } finally {
    fs.closeSync(fd);
    await handle.close();
  }
});

test("a Deno.FsFile is not taken for a write-only descriptor of the same file", async () => {
  const dir = folder();
  const path = join(dir, "file.bin");
  fs.writeFileSync(path, DATA);
  const writing = fs.openSync(path, "a"); // has a lower number than what is opened next, and so is met first
  const file = Deno.openSync(path);
  const pair = await raw.open();
  try {
    const all = pair.peer.all();
    const starts: unknown[] = [];
    assertEquals(
      await sendfile(pair.socket, file, { onStart: (start) => starts.push(start) }),
      DATA.length,
    );
    assertEquals(starts, [{ via: "sendfile" }]);
    pair.end();
    assertBytes(await all, DATA);
  } finally {
    file.close();
    fs.closeSync(writing);
    pair.close();
    fs.rmSync(dir, { recursive: true });
  }
}, { only: "deno" });

test("a file of /proc, whose size is not known, sends what count asks for", async () => {
  const expected = new Uint8Array(fs.readFileSync("/proc/version"));
  const pair = await raw.open();
  try {
    const all = pair.peer.all();
    assertEquals(await sendfile(pair.socket, "/proc/version", { count: 4096 }), expected.length);
    pair.end();
    assertBytes(await all, expected);
  } finally {
    pair.close();
  }
});

test("one file goes over many sockets at once, each with its own position", async () => {
  using file = testFile(DATA);
  for (const zeroCopy of [true, false]) {
    const pairs = await Promise.all(Array.from({ length: 10 }, () => raw.open({ small: true })));
    await onlyBy(zeroCopy ? "sendfile" : "copy", () =>
      Promise.all(pairs.map(async (pair, i) => {
        const all = pair.peer.all();
        const sent = await sendfile(pair.socket, file.file, { offset: i * 1000, zeroCopy });
        assertEquals(sent, DATA.length - i * 1000);
        pair.end();
        assertBytes(await all, DATA.subarray(i * 1000));
        pair.close();
      })));
  }
});

test("a sparse file of more than 4 GiB sends from behind 4 GiB", async () => {
  using file = testFile(new Uint8Array(0));
  const at = 5 * 2 ** 30 + 123;
  const fd = fs.openSync(file.path, "w");
  fs.writeSync(fd, DATA, 0, DATA.length, at);
  fs.closeSync(fd);
  for (const zeroCopy of [true, false]) {
    const pair = await nodeAccepted.open();
    const all = pair.peer.all();
    const options = { offset: at, zeroCopy };
    const way = zeroCopy ? "sendfile" : "copy";
    assertEquals(await onlyBy(way, () => sendfile(pair.socket, file.file, options)), DATA.length);
    file.assertPosition(at + DATA.length);
    pair.end();
    assertBytes(await all, DATA);
    pair.close();
  }
});
