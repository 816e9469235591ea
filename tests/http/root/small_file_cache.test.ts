/** Small files whose bytes are kept: whatever happens to a file, the next request gets what it holds by then. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import process from "node:process";
import { libc } from "../../../ffi/load.ts";
import { closeFile, type HttpFailure, type OpenFile } from "../../../http/root/open_file.ts";
import { type Directory, openInside } from "../../../http/root/request_target.ts";
import { cachedFile, LARGEST_KEPT, openCached } from "../../../http/root/small_file_cache.ts";
import { bytes, openBelow } from "../../support/data.ts";
import { each, inDirectory } from "../../support/each_server.ts";
import { Client, request } from "../../support/http_client.ts";
import { test } from "../../support/harness.ts";
import { until } from "../../support/site.ts";

const skip = typeof libc() === "string" || process.platform !== "linux" ? "only Linux with FFI" : undefined;

/** What an open has found: whether it is from the cache, and its bytes. The file is closed. */
function take(found: OpenFile | Directory | HttpFailure): { cached: boolean; text: string } {
  if (found.kind !== "file") return { cached: false, text: found.kind };
  try {
    const text = found.content ? new TextDecoder().decode(found.content) : fs.readFileSync(found.fd, "utf8");
    return { cached: found.content !== undefined, text };
  } finally {
    closeFile(found);
  }
}

interface Place {
  readonly base: string;
  readonly root: string;
  /** The file `dir/file.txt` below the root, which holds "before". */
  readonly path: string;
  open(): { cached: boolean; text: string };
}

/** Runs `body` with a file that is in the cache. */
function withCached(body: (place: Place) => Promise<void> | void): Promise<void> {
  return inDirectory(async (base) => {
    const root = join(base, "root");
    const path = join(root, "dir/file.txt");
    fs.mkdirSync(join(root, "dir"), { recursive: true });
    fs.writeFileSync(path, "before");
    fs.utimesSync(path, 1e9, 1e9); // a time that can be set again exactly
    const open = () => take(openInside(root, ["dir", "file.txt"], false, false, LARGEST_KEPT));
    await until(() => open().cached, "the file to be in the cache");
    assertEquals([open().text, openBelow(base).length], ["before", 0]);
    await body({ base, root, path, open });
  });
}

/** Changes of a file, and what it holds then. */
const CHANGES: Record<string, { change: (place: Place) => void; text: string }> = {
  "is written to, its size and modification time as before": {
    change({ path }) {
      const { atime, mtime } = fs.statSync(path);
      fs.writeFileSync(path, "after!");
      fs.utimesSync(path, atime, mtime);
    },
    text: "after!",
  },
  "grows": { change: ({ path }) => fs.appendFileSync(path, " and after"), text: "before and after" },
  "is truncated": { change: ({ path }) => fs.truncateSync(path, 3), text: "bef" },
  "is emptied": { change: ({ path }) => fs.truncateSync(path, 0), text: "" },
  "is replaced by another of its size and times": {
    change({ path }) {
      const { atime, mtime } = fs.statSync(path);
      fs.writeFileSync(`${path}.new`, "after!");
      fs.utimesSync(`${path}.new`, atime, mtime);
      fs.renameSync(`${path}.new`, path);
    },
    text: "after!",
  },
  "is removed": { change: ({ path }) => fs.rmSync(path), text: "failure" },
  "becomes a directory": {
    change({ path }) {
      fs.rmSync(path);
      fs.mkdirSync(path);
    },
    text: "directory",
  },
  "is replaced by a symlink to another file of the root": {
    change({ path, root }) {
      fs.writeFileSync(join(root, "other.txt"), "after!");
      fs.rmSync(path);
      fs.symlinkSync("../other.txt", path);
    },
    text: "after!",
  },
  "is replaced by a symlink out of the root": {
    change({ path, base }) {
      fs.writeFileSync(join(base, "secret.txt"), "SECRET");
      fs.rmSync(path);
      fs.symlinkSync("../../secret.txt", path);
    },
    text: "failure",
  },
  "has another directory above it": {
    change({ root }) {
      fs.renameSync(join(root, "dir"), join(root, "old"));
      fs.mkdirSync(join(root, "dir"));
      fs.writeFileSync(join(root, "dir/file.txt"), "after!");
    },
    text: "after!",
  },
  "has a symlink out of the root above it": {
    change({ root, base }) {
      fs.mkdirSync(join(base, "outside"));
      fs.writeFileSync(join(base, "outside/file.txt"), "SECRET");
      fs.rmSync(join(root, "dir"), { recursive: true });
      fs.symlinkSync("../outside", join(root, "dir"));
    },
    text: "failure",
  },
};

for (const [what, { change, text }] of Object.entries(CHANGES)) {
  test(`openInside sees at once that a cached file ${what}`, () =>
    withCached((place) => {
      change(place);
      assertEquals(place.open(), { cached: false, text });
    }), { skip });
}

test(
  "openInside does not keep what was written less than a second ago",
  () =>
    withCached(({ path, open }) => {
      const ends = performance.now() + 300;
      for (let i = 0; performance.now() < ends; i++) {
        const text = String(i).padStart(6, "0");
        fs.writeFileSync(path, text);
        for (let j = 0; j < 3; j++) assertEquals(open(), { cached: false, text });
      }
    }),
  { skip },
);

test("openInside reads a cached file anew after a second", () =>
  withCached(async ({ open }) => {
    const began = performance.now();
    let opened = 0;
    while (performance.now() - began < 2500) {
      const { cached, text } = open();
      assertEquals(text, "before");
      if (!cached) opened++;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert(opened >= 2, `${opened} opens`);
  }), { skip });

test(
  "openInside gives a root no file that was cached by following symlinks",
  () =>
    inDirectory(async (base) => {
      const root = join(base, "root");
      fs.mkdirSync(root);
      fs.writeFileSync(join(base, "secret.txt"), "SECRET");
      fs.symlinkSync("../secret.txt", join(root, "link.txt"));
      const open = (followSymlinks: boolean) =>
        take(openInside(root, ["link.txt"], false, followSymlinks, LARGEST_KEPT));
      await until(() => open(true).cached, "the file to be in the cache");
      assertEquals(open(false).text, "failure");
      assertEquals(take(openCached(join(root, "link.txt"), LARGEST_KEPT)).text, "SECRET");
      assertEquals(open(false).text, "failure");
    }),
  { skip },
);

test("openInside keeps no large file, and none that is asked for once", () =>
  inDirectory(async (base) => {
    const names = Array.from({ length: 20 }, (_, i) => `${i}.txt`);
    for (const name of names) fs.writeFileSync(join(base, name), name);
    fs.writeFileSync(join(base, "large.bin"), bytes(64 * 1024 + 1));
    fs.writeFileSync(join(base, "largest.bin"), bytes(64 * 1024));
    const cached = (name: string) => take(openInside(base, [name], false, false, LARGEST_KEPT)).cached;
    await until(() => cached("largest.bin"), "the largest that is kept");
    for (const name of names) assertEquals(cached(name), false);
    for (let i = 0; i < 5; i++) assertEquals(cached("large.bin"), false);
  }), { skip });

test(
  "openInside keeps no more than 16 MiB, and what it has read it uses for a second",
  () =>
    inDirectory(async (base) => {
      const names = Array.from({ length: 400 }, (_, i) => `${i}.bin`);
      for (const name of names) fs.writeFileSync(join(base, name), bytes(64 * 1024, 5));
      const open = (name: string) => take(openInside(base, [name], false, false, LARGEST_KEPT)).cached;
      const last = names.at(-1)!;
      await until(() => open(last), "a file to be in the cache"); // all are old enough by then
      await until(() => !cachedFile(join(base, last), LARGEST_KEPT, base), "the file to be read anew");
      for (const name of names) for (let i = 0; i < 2; i++) open(name);
      const kept = names.filter((name) => cachedFile(join(base, name), LARGEST_KEPT, base));
      assert(kept.length > 0 && kept.length < 256, `${kept.length} files of 64 KiB`);
      await until(() => open(last), "room, once the others are used no longer");
      assert(cachedFile(join(base, last), LARGEST_KEPT, base), "there is room again");
    }),
  { skip },
);

const small = Buffer.from(bytes(5000, 3));

each("sends a cached file and its parts as it is, and what takes its place", async ({ root, get }) => {
  const path = join(root, "small.bin");
  fs.writeFileSync(path, small);
  const ends = performance.now() + 2500; // the file is in the cache by then, and was read anew
  while (performance.now() < ends) {
    const whole = await get("/small.bin");
    assertEquals([whole.status, whole.headers["content-length"]], [200, "5000"]);
    assertEquals(whole.body, small);
    assertEquals(
      (await get("/small.bin", { Range: "bytes=10-19" })).body,
      small.subarray(10, 20),
    );
    const { status, body } = await get("/small.bin", { "If-None-Match": whole.headers.etag });
    assertEquals([status, body.length], [304, 0]);
    assertEquals((await get("/small.bin", {}, "HEAD")).body.length, 0);
  }
  const parts = await get("/small.bin", { Range: "bytes=0-4,100-199" });
  assert(parts.body.includes(small.subarray(100, 200)), "the second part");
  fs.writeFileSync(path, bytes(5000, 4));
  assertEquals((await get("/small.bin")).body, Buffer.from(bytes(5000, 4)));
});

each("answers all pipelined requests of a half-closed client from the cache", async ({ root, port, get }) => {
  fs.writeFileSync(join(root, "small.bin"), small);
  const settled = Date.now() + 2100; // old enough to be kept by then
  await until(() => Date.now() > settled, "the file to be old enough");
  for (let i = 0; i < 3; i++) await get("/small.bin");
  const client = await Client.to(port);
  client.socket.end(Array(5).fill(request("/small.bin")).join(""));
  for (let i = 0; i < 5; i++) assertEquals((await client.reply()).body, small);
  client.close();
}, { skip: (kind) => kind === "Bun.serve" && "oven-sh/bun#38128: Bun.serve closes the connection" });
