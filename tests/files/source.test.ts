/** Every kind of file argument, both ways, and what happens to files on the way. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { pathToFileURL } from "node:url";
import { join } from "@std/path";
import {
  sendfile,
  type SendfileFile,
  SendfileNotAvailableError,
  SendfileRegion,
  sendfileStats,
  sendfileSync,
} from "../../mod.ts";
import { openSource } from "../../files/source.ts";
import {
  assertBytes,
  bytes,
  concat,
  DATA,
  folder,
  moveTo,
  openBelow,
  positionOf,
  testFile,
} from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { onlyBy } from "../support/helpers.ts";
import { nodeAccepted, raw } from "../support/pairs.ts";

interface BunGlobal {
  file(path: string | number): Blob & { size: number };
}
const bun = (globalThis as unknown as { Bun: BunGlobal }).Bun;

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

test("a descriptor that its owner closes in the middle still sends its own file", async () => {
  using right = testFile(DATA);
  using wrong = testFile(bytes(DATA.length, 99));
  for (const zeroCopy of [true, false]) {
    const pair = await raw.open({ small: true });
    const all = pair.peer.all();
    const fd = fs.openSync(right.path, "r");
    const others: number[] = [];
    let closed = false;
    const onProgress = () => {
      if (closed) return;
      closed = true;
      fs.closeSync(fd);
      for (let i = 0; i < 10; i++) others.push(fs.openSync(wrong.path, "r")); // one of them takes the number
    };
    const sent = await onlyBy(
      zeroCopy ? "sendfile" : "copy",
      () => sendfile(pair.socket, fd, { zeroCopy, onProgress }),
    );
    assert(others.includes(fd), "the number was not handed out again");
    assertEquals(sent, DATA.length);
    pair.end();
    assertBytes(await all, DATA);
    for (const other of others) fs.closeSync(other);
    pair.close();
  }
});

test("a file that is replaced in the middle is sent as it was opened", async () => {
  using file = testFile(DATA);
  for (const zeroCopy of [true, false]) {
    fs.writeFileSync(file.path, DATA);
    const pair = await raw.open({ small: true });
    const all = pair.peer.all();
    let replaced = false;
    const onProgress = () => {
      if (replaced) return;
      replaced = true;
      fs.writeFileSync(file.path + ".new", bytes(DATA.length, 98));
      fs.renameSync(file.path + ".new", file.path);
    };
    await onlyBy(
      zeroCopy ? "sendfile" : "copy",
      () => sendfile(pair.socket, file.path, { zeroCopy, onProgress }),
    );
    assert(replaced);
    pair.end();
    assertBytes(await all, DATA);
    pair.close();
  }
});

test("a file that grows in the middle sends exactly the count that was promised", async () => {
  using file = testFile(DATA);
  for (const zeroCopy of [true, false]) {
    fs.writeFileSync(file.path, DATA);
    const pair = await raw.open({ small: true });
    const all = pair.peer.all();
    let grown = false;
    const onProgress = () => {
      if (!grown) fs.appendFileSync(file.path, bytes(200_000, 97));
      grown = true;
    };
    assertEquals(
      await sendfile(pair.socket, file.path, { count: DATA.length, zeroCopy, onProgress }),
      DATA.length,
    );
    assert(grown);
    pair.end();
    assertBytes(await all, DATA);
    pair.close();
  }
});

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

test("the length of a SendfileRegion of a directory is an error that says so", () => {
  const dir = folder();
  for (const path of [dir, pathToFileURL(dir)]) {
    const error = assertThrows(() => new SendfileRegion(path).length, SendfileNotAvailableError);
    assertEquals(error.message, `${dir} is a directory`);
  }
  fs.rmSync(dir, { recursive: true });
});

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

test("SendfileRegion knows its length, and refuses invalid ranges", () => {
  using file = testFile(DATA);
  assertEquals(new SendfileRegion(file.path).length, DATA.length);
  assertEquals(new SendfileRegion(file.path, 100).length, DATA.length - 100);
  assertEquals(new SendfileRegion(file.path, 100, 7).length, 7);
  assertEquals(new SendfileRegion(file.path, DATA.length - 3, 7).length, 3);
  assertEquals(new SendfileRegion(pathToFileURL(file.path), DATA.length + 3).length, 0);
  assertThrows(() => new SendfileRegion(file.path, -1), RangeError);
  assertThrows(() => new SendfileRegion(file.path, 0, 0), RangeError);
  assertThrows(() => new SendfileRegion(file.path, 0.5), TypeError);
  assertThrows(() => new SendfileRegion(5 as unknown as string), TypeError);
});
