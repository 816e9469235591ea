/** Times of modification that say nothing, or that a date cannot hold: of files, and in listings. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import { spawnSync } from "node:child_process";
import { each, write } from "../support/each_server.ts";
import { missing } from "../support/site.ts";

/** The epoch (Nix: a second behind it), ZIP's first day, the last second that counts as saying nothing. */
const MEANINGLESS = [0, 1, 315_532_800, 315_619_200];

each(
  "tells replaced files apart whose time of modification says nothing",
  async ({ base, root, add, get }) => {
    for (const time of MEANINGLESS) {
      add("a.txt", "version 1", time);
      const first = await get("/a.txt");
      const { etag } = first.headers;
      assertEquals([first.status, first.headers["last-modified"]], [200, undefined]);
      assertEquals((await get("/a.txt")).headers.etag, etag);
      assertEquals((await get("/a.txt", { "If-None-Match": etag })).status, 304);
      assertEquals((await get("/a.txt", { "If-Range": etag, Range: "bytes=0-1" })).status, 206);
      fs.renameSync(write(join(base, "new.txt"), "version 2", time), join(root, "a.txt"));
      const second = await get("/a.txt", { "If-None-Match": etag });
      assertEquals([second.status, String(second.body)], [200, "version 2"], String(time));
      assert(second.headers.etag !== etag, etag);
      const rest = await get("/a.txt", { "If-Range": etag, Range: "bytes=8-" });
      assertEquals([rest.status, String(rest.body)], [200, "version 2"]);
      // A date is no validator here, as none is sent.
      const date = new Date(time * 1000).toUTCString();
      assertEquals((await get("/a.txt", { "If-Modified-Since": date })).status, 200);
      assertEquals((await get("/a.txt", { "If-Range": date, Range: "bytes=8-" })).status, 200);
    }
    add("a.txt", "version 3", 315_619_201);
    assertEquals((await get("/a.txt")).headers["last-modified"], "Wed, 02 Jan 1980 00:00:01 GMT");
  },
);

/** tmpfs holds any time; a disk's file system has the nearest one that it can. */
const TMPFS = "/dev/shm";
const roomy: string[] = [];

function onTmpfs({ root }: { root: string }): void {
  if (!fs.existsSync(TMPFS)) return;
  const place = fs.mkdtempSync(join(TMPFS, "times-"));
  roomy.push(place);
  fs.rmdirSync(root);
  fs.symlinkSync(place, root);
}

/** Years that a HTTP date or `Date` cannot hold; file systems clamp some of them. */
const ODD_TIMES = [
  "@253402300800",
  "@8640000000001",
  "@99999999999999",
  "@-62167219201",
  "@-1",
  "@4294967296",
];

each("lists and serves files of any time of modification", async ({ root, add, get }) => {
  using _place = {
    [Symbol.dispose]: () => roomy.splice(0).forEach((path) => fs.rmSync(path, { recursive: true })),
  };
  add("plain.txt", "plain");
  for (const [i, time] of ODD_TIMES.entries()) {
    const path = add(`${i}.txt`, String(i));
    spawnSync("touch", ["-m", "-d", time, path]); // where the file system cannot hold it, the time stays
  }
  for (const [i, time] of ODD_TIMES.entries()) {
    const { status, body, headers } = await get(`/${i}.txt`);
    assertEquals([status, String(body)], [200, String(i)], time);
    const modified = headers["last-modified"];
    assert(modified === undefined || /^\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT$/.test(modified), modified);
  }
  const page = await get("/");
  assertEquals(page.status, 200);
  for (const name of fs.readdirSync(root)) assert(page.body.includes(`./${name}`), name);
  for (const [, date] of String(page.body).matchAll(/datetime="([^"]*)"/g)) {
    assert(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(date), date);
  }
  const { entries } = JSON.parse(String((await get("/", { Accept: "application/json" })).body));
  assertEquals(entries.length, ODD_TIMES.length + 1);
  for (const { modified } of entries) assert(modified === undefined || /^\d{4}-/.test(modified), modified);
}, { options: { showDirListing: true }, prepare: onTmpfs, skip: () => missing("touch") });
