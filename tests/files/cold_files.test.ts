/** A disk that is slow holds nobody but those who want what is on it. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as fs from "node:fs";
import { join } from "@std/path";
import process from "node:process";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc, replaceLibc } from "../../ffi/load.ts";
import { serveFile, withSendfile } from "../../http/mod.ts";
import {
  sendfile,
  type SendfileFile,
  type SendfileOptions,
  sendfileStats,
  sendfileSync,
  SendfileTimeoutError,
} from "../../mod.ts";
import { assertBytes, bytes, folder, openBelow, testFile } from "../support/data.ts";
import { faulty } from "../support/faults.ts";
import { isBun, test } from "../support/harness.ts";
import { readInChild } from "../support/helpers.ts";
import { ask } from "../support/http_client.ts";
import { KINDS, type Running, startDenoServe } from "../support/http_servers.ts";
import { raw } from "../support/pairs.ts";
import { forget, SlowDisk, whyNoSlowDisk } from "../support/slow_disk.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** How many times slower the disk is than usual: for an emulated processor, which is slow itself (platforms/guest.ts). */
const SLOWER = Number(process.env.SENDFILE_SLOWER_DISK ?? 1);

/** Bytes of each of the cold files, and what their disk gives in a second. */
const LARGE = 4 * MIB;
const RATE = 10 * MIB / SLOWER;

type Start = (root: string) => Promise<Running>;

const SERVERS: [name: string, start: Start][] = [
  ...KINDS.filter(({ name }) => name !== "Bun.serve" && name !== "Deno.serve").map(
    ({ name, start }): [string, Start] => [name, (root) => start({ root })],
  ),
  ...(!isBun ? [["withSendfile", startWithSendfile] as [string, Start]] : []),
];

function startWithSendfile(root: string): Promise<Running> {
  const handler = withSendfile((request) => serveFile(request, root + new URL(request.url).pathname));
  return Promise.resolve(startDenoServe(handler));
}

/** Downloads files whose bytes are known; gives how often `other` ran meanwhile. */
async function beside(downloads: Promise<void>[], other: () => Promise<void>): Promise<number> {
  let done = false;
  const all = Promise.all(downloads).finally(() => done = true);
  let times = 0;
  while (!done) {
    await other();
    if (!done) times++;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await all;
  return times;
}

for (const [name, start] of SERVERS) {
  test(`${name}: a small file is sent beside four downloads of cold files`, async () => {
    using disk = new SlowDisk(RATE);
    const files = [1, 2, 3, 4].map((seed) => bytes(LARGE, seed));
    files.forEach((content, i) => disk.add(`${i}.bin`, content));
    const small = bytes(1000, 9);
    fs.writeFileSync(join(disk.dir, "small.bin"), small);
    const server = await start(disk.dir);
    try {
      assertBytes((await ask(server.port, "/small.bin")).body, small);
      const before = sendfileStats();
      disk.slowDown(process.pid);
      const times = await beside(
        files.map(async (content, i) => assertBytes((await ask(server.port, `/${i}.bin`)).body, content)),
        async () => assertBytes((await ask(server.port, "/small.bin")).body, small),
      );
      const after = sendfileStats();
      // The downloads take 1.6 s and more; with the thread in the disk one to four are answered in that (measured).
      assert(times >= 12, `${times} answers`);
      assertEquals(after.copy.bytes, before.copy.bytes);
      assert(after.diskWaits > before.diskWaits, "nobody waited for the disk");
      assertEquals(server.errors, []);
    } finally {
      await server.close();
    }
  }, { skip: whyNoSlowDisk() });
}

/** What is sent of a cold file, and what closes it. */
type Open = (path: string) => { file: SendfileFile; close(): void };

const plain: Open = (path) => ({ file: path, close() {} });

const OPEN: Record<string, Open> = {
  "a path": plain,
  "a descriptor": (path) => {
    const file = fs.openSync(path, "r");
    return { file, close: () => fs.closeSync(file) };
  },
  ...(!isBun && {
    "a Deno.FsFile": (path: string) => {
      const file = Deno.openSync(path);
      return { file, close: () => file.close() };
    },
  }),
};

/** Sends four cold files, and counts how often a timer runs meanwhile. */
async function countTimers(open: Open, options: SendfileOptions): Promise<number> {
  using disk = new SlowDisk(RATE);
  const files = [1, 2, 3, 4].map((seed) => bytes(LARGE, seed));
  const opened = files.map((content, i) => open(disk.add(`${i}.bin`, content)));
  try {
    disk.slowDown(process.pid);
    return await beside(
      files.map(async (content, i) => {
        const pair = await raw.open();
        const received = pair.peer.all();
        assertEquals(await sendfile(pair.socket, opened[i].file, options), LARGE);
        pair.end();
        assertBytes(await received, content);
        pair.close();
      }),
      () => Promise.resolve(),
    );
  } finally {
    for (const { close } of opened) close();
  }
}

test("sendfile: a timer runs beside four transfers of cold files", async () => {
  const before = sendfileStats();
  const times = await countTimers(plain, {});
  assert(times >= 25, `a timer ran ${times} times`);
  const after = sendfileStats();
  assertEquals(after.sendfile.bytes - before.sendfile.bytes, 4 * LARGE);
  assert(after.diskWaits > before.diskWaits, "nobody waited for the disk");
}, { skip: whyNoSlowDisk() });

test("sendfile: a timer still runs beside four transfers if nothing tells what is in memory", async () => {
  using told = telling({ isCached: () => undefined, canReadNow: () => undefined });
  const before = sendfileStats();
  const times = await countTimers(plain, {});
  assert(times >= 25, `a timer ran ${times} times`);
  const after = sendfileStats();
  assertEquals(after.sendfile.bytes - before.sendfile.bytes, 4 * LARGE);
  assert(after.diskWaits > before.diskWaits, "nobody waited for the disk");
  assert(told.counts.every((count) => count <= 128 * KIB), `${told.counts}`);
}, { skip: whyNoSlowDisk() });

for (const [name, open] of Object.entries(OPEN)) {
  for (const libc of ["with", "without"] as const) {
    // Deno's node:fs gives no descriptor to others than itself.
    test(
      `sendfile: a timer runs beside four copies of cold files, ${name}, ${libc} a C library`,
      async () => {
        if (libc === "without") replaceLibc("none here, the test says");
        try {
          const before = sendfileStats();
          const times = await countTimers(open, { zeroCopy: false });
          assert(times >= 25, `a timer ran ${times} times`);
          assertEquals(sendfileStats().copy.bytes - before.copy.bytes, 4 * LARGE);
        } finally {
          replaceLibc(undefined);
        }
      },
      { skip: whyNoSlowDisk() },
    );
  }
}

/** Bytes of files that some servers send from memory. */
const SMALL = 15 * KIB;

for (const { name, start } of KINDS) {
  test(`${name}: a timer runs beside downloads of many small cold files`, async () => {
    using disk = new SlowDisk(MIB / 2);
    // Without an extension: their first bytes are looked at, too.
    const files = Array.from({ length: 60 }, (_, i) => [`file${i}`, bytes(SMALL, i)] as const);
    for (const [name, content] of files) disk.add(name, content);
    const server = await start({ root: disk.dir });
    try {
      await ask(server.port, "/nothing"); // what the server itself reads from a disk
      for (const [name] of files) fs.statSync(join(disk.dir, name));
      disk.slowDown(process.pid);
      const downloads = [0, 1, 2, 3].map(async (n) => {
        for (let i = n; i < files.length; i += 4) {
          const [name, content] = files[i];
          assertBytes((await ask(server.port, `/${name}`)).body, content);
        }
      });
      const times = await beside(downloads, () => Promise.resolve());
      assert(times >= 25, `a timer ran ${times} times`);
    } finally {
      await server.close();
    }
  }, { skip: whyNoSlowDisk() });
}

test("sendfile: two copies of one Deno.FsFile do not disturb each other, nor does its owner", async () => {
  replaceLibc("none here, the test says");
  const content = bytes(5 * MIB);
  using file = testFile(content);
  const whole = file.file as Deno.FsFile;
  try {
    let done = false;
    const owner = (async () => {
      for (let i = 0; !done; i++) {
        if (i % 2 === 0) whole.seekSync(i % 1000, Deno.SeekMode.Start);
        else await whole.read(new Uint8Array(1000));
        await new Promise((resolve) => setTimeout(resolve));
      }
    })();
    await Promise.all([0, 1, 2].map(async (offset) => {
      const pair = await raw.open();
      const received = pair.peer.all();
      await sendfile(pair.socket, whole, { offset, zeroCopy: false });
      pair.end();
      assertBytes(await received, content.subarray(offset));
      pair.close();
    }));
    done = true;
    await owner;
  } finally {
    replaceLibc(undefined);
  }
}, { only: "deno" });

/** A C library that tells something else of what is in memory. */
function telling(
  told: Partial<Pick<Libc, "isCached" | "canReadNow">>,
): Disposable & { ahead: number[]; counts: number[] } {
  const libc = faulty({});
  const [readAhead, send] = [libc.readAhead.bind(libc), libc.sendfile.bind(libc)];
  const [ahead, counts]: [number[], number[]] = [[], []];
  libc.readAhead = (fd, offset, count) => {
    ahead.push(offset + count);
    readAhead(fd, offset, count);
  };
  libc.sendfile = (out, file, offset, count) => {
    counts.push(count);
    return send(out, file, offset, count);
  };
  replaceLibc(Object.assign(libc, told));
  return { ahead, counts, [Symbol.dispose]: () => replaceLibc(undefined) };
}

/** Sends a file of `size` bytes and checks what comes; gives the statistics' change. */
async function transfer(size: number, options: SendfileOptions = {}): Promise<number> {
  using file = testFile(bytes(size));
  const pair = await raw.open();
  const received = pair.peer.all();
  const before = sendfileStats();
  const open = openBelow(file.path);
  try {
    assertEquals(await sendfile(pair.socket, file.path, options), size);
    assertEquals(sendfileStats().sendfile.bytes - before.sendfile.bytes, size);
    pair.end();
    assertBytes(await received, bytes(size));
  } finally {
    assertEquals(openBelow(file.path), open);
    pair.close();
  }
  return sendfileStats().diskWaits - before.diskWaits;
}

const SIZE = 9 * MIB + 5;
const noLibc = typeof loadLibc() === "string" ? "no C library" : undefined;

test("sendfile: a file in memory is asked about once for 4 MiB, and a second time not at all", async () => {
  let asked = 0;
  using told = telling({ isCached: (_, __, count) => (asked++, count <= 4 * MIB), canReadNow: () => true });
  assertEquals(await transfer(SIZE), 0);
  assertEquals([asked, told.ahead], [3, []]);
  using file = testFile(bytes(MIB));
  for (let i = 0; i < 3; i++) {
    const pair = await raw.open();
    const received = pair.peer.all();
    await sendfile(pair.socket, file.path);
    pair.end();
    assertBytes(await received, bytes(MIB));
    pair.close();
  }
  assertEquals(asked, 4);
}, { skip: noLibc });

test(
  "sendfile: a file that is not in memory is read ahead in a bounded window, and sent as it arrives",
  async () => {
    let there = 0;
    const disk = setInterval(() => there += 100 * KIB, 2);
    using told = telling({ isCached: () => false, canReadNow: (_, offset) => offset < there });
    try {
      assert(await transfer(SIZE) > 10, "it did not wait");
    } finally {
      clearInterval(disk);
    }
    let sent = 0;
    assert(told.counts.every((count) => count <= MIB));
    assertEquals(told.ahead.at(-1), SIZE);
    for (const end of told.ahead) {
      assert(end > sent, "what has been sent is read again");
      sent = Math.max(0, end - 4 * MIB);
    }
  },
  { skip: noLibc },
);

test("sendfile: if nothing tells what is in memory, no call sends more than 128 KiB", async () => {
  using told = telling({ isCached: () => undefined, canReadNow: () => undefined });
  await transfer(SIZE);
  assert(told.counts.length >= SIZE / (128 * KIB), `${told.counts}`);
  assert(told.counts.every((count) => count <= 128 * KIB), `${told.counts}`);
  assertEquals(told.ahead.at(-1), SIZE);
}, { skip: noLibc });

test("sendfile: if cachestat(2) is refused, pages are checked one by one", async () => {
  using told = telling({ isCached: () => undefined });
  assertEquals(await transfer(SIZE), 0);
  assertEquals([told.ahead, told.counts.some((count) => count > 128 * KIB)], [[], true]);
}, { skip: noLibc });

test("sendfile: an unreadable page is finally left to sendfile(2), which reports the error", async () => {
  const real = performance.now.bind(performance);
  let later = 0;
  using told = telling({
    isCached: () => false,
    canReadNow() {
      later += 1000; // each look comes a second after the one before
      return false;
    },
  });
  performance.now = () => real() + later;
  try {
    assert(await transfer(300 * KIB) >= 1, "it did not wait");
  } finally {
    performance.now = real;
  }
  assert(told.ahead.length > 2, "it was not read again");
}, { skip: noLibc });

test("sendfile: an abort and a timeout end the wait for a disk", async () => {
  using _told = telling({ isCached: () => false, canReadNow: () => false });
  const reason = new Error("enough");
  const caught = await assertRejects(() => transfer(SIZE, { signal: abortIn(20, reason) }));
  assert(caught === reason);
  const error = await assertRejects(() => transfer(SIZE, { timeout: 20 }), SendfileTimeoutError);
  assertEquals(error.sent, 0);
}, { skip: noLibc });

function abortIn(ms: number, reason: Error): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), ms);
  return controller.signal;
}

test("sendfileSync: it waits for the disk itself", async () => {
  using told = telling({ isCached: () => false, canReadNow: () => false });
  using file = testFile(bytes(SIZE));
  await using child = await readInChild();
  assertEquals(sendfileSync(child.socket, file.path), SIZE);
  assertBytes(await child.received(), bytes(SIZE));
  assertEquals(told.ahead, []);
}, { skip: noLibc });

test("Libc: it tells of a file whether it is in memory", () => {
  const libc = loadLibc() as Libc;
  const dir = folder();
  const path = join(dir, "file.bin");
  fs.writeFileSync(path, bytes(MIB + 7));
  const fd = fs.openSync(path, "r");
  try {
    fs.fsyncSync(fd);
    // The last byte before the first: the question makes the kernel read on from there.
    const hasCachestat = libc.isCached(fd, 0, 1) !== undefined; // Linux 6.5
    const cached =
      () => [libc.isCached(fd, 0, MIB + 7), libc.canReadNow(fd, MIB + 6), libc.canReadNow(fd, 0)];
    assertEquals(cached(), [hasCachestat ? true : undefined, true, true]);
    assertEquals(libc.canReadNow(fd, MIB + 7), true, "there is nothing to wait for behind the end");
    forget(path);
    assertEquals(cached(), [hasCachestat ? false : undefined, false, false]);
    fs.readSync(fd, new Uint8Array(1), 0, 1, MIB + 6);
    assertEquals(libc.canReadNow(fd, MIB + 6), true);
    if (hasCachestat) assertEquals(libc.isCached(fd, MIB, 7), true);
  } finally {
    fs.closeSync(fd);
    fs.rmSync(dir, { recursive: true });
  }
}, { skip: whyNoSlowDisk() });
