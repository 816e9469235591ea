/** What is remembered of requests takes no memory without bound. */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { RecentMap } from "../recent_map.ts";
import { folder } from "./support/data.ts";
import { isBun, test } from "./support/harness.ts";

test("RecentMap remembers what was set last, and at most twice as much as it must", () => {
  const map = new RecentMap<number, string>(100);
  const remembered = () => Array.from({ length: 1000 }, (_, i) => i).filter((i) => map.get(i) !== undefined);
  for (let i = 0; i < 1000; i++) {
    map.set(i, String(i));
    const keys = remembered();
    const last = Math.min(i + 1, 100);
    assertEquals(keys.slice(-last), Array.from({ length: last }, (_, k) => i + 1 - last + k));
    assert(keys.length <= 200, `${keys.length} are remembered`);
  }
});

test("RecentMap gives the value that was set last", () => {
  const map = new RecentMap<string, number>(2);
  for (let i = 0; i < 10; i++) {
    map.set("same", i);
    map.set(`other ${i}`, -1);
    assertEquals(map.get("same"), i);
  }
});

test("serving from ever new roots does not let memory grow", () => {
  const base = folder();
  const count = 12_000;
  try {
    fs.mkdirSync(join(base, "real"));
    fs.writeFileSync(join(base, "real", "file.txt"), "content");
    for (let i = 0; i < count; i++) fs.symlinkSync("real", join(base, `root ${i}`));
    const script = fromFileUrl(new URL("./children/roots.ts", import.meta.url));
    const flags = ["run", "-A", "--no-check", "--node-modules-dir=none", "--v8-flags=--expose-gc"];
    const args = [...isBun ? [] : flags, script, base, String(count)];
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    assertEquals(stderr, "");
    // With nothing forgotten there are some 600 bytes for each of the other 9000 roots.
    assert(Number(stdout) < 3e6, `${stdout} bytes more`);
  } finally {
    fs.rmSync(base, { recursive: true });
  }
});
