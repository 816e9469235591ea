/** The security boundary of all that serves a directory, where it is hardest: while somebody changes the directory. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { linux } from "../../../ffi/linux.ts";
import { loadLibc, replaceLibc } from "../../../ffi/load.ts";
import { failure } from "../../../http/root/open_file.ts";
import { openInside, parseTarget } from "../../../http/root/request_target.ts";
import { folder, openBelow } from "../../support/data.ts";
import { isBun, test } from "../../support/harness.ts";

/** Swaps the directory `swap` for a symlink that leads out, and back, until it is killed. */
const SWAP = `import * as fs from "node:fs";
const root = process.argv[2] + "/";
console.log("going");
for (;;) {
  fs.renameSync(root + "swap", root + "good");
  fs.renameSync(root + "evil", root + "swap");
  fs.renameSync(root + "swap", root + "evil");
  fs.renameSync(root + "good", root + "swap");
}`;

interface Site {
  readonly base: string;
  readonly root: string;
}

async function withSite(body: (site: Site) => Promise<void> | void): Promise<void> {
  const base = fs.realpathSync(folder());
  const root = join(base, "root");
  try {
    fs.mkdirSync(join(root, "swap"), { recursive: true });
    fs.mkdirSync(join(base, "outside"));
    fs.writeFileSync(join(root, "swap/file.txt"), "inside");
    fs.writeFileSync(join(base, "outside/file.txt"), "SECRET");
    fs.symlinkSync("../outside", join(root, "evil"));
    await body({ base, root });
  } finally {
    fs.rmSync(base, { recursive: true });
  }
}

/** What comes of an open, its file read and closed. */
function read(root: string, ...names: string[]): string | number {
  const found = openInside(root, names, false);
  if (found.kind === "failure") return found.status;
  if (found.kind === "directory") return "directory";
  try {
    return fs.readFileSync(found.fd, "utf8");
  } finally {
    fs.closeSync(found.fd);
  }
}

test(
  "a symlink that is swapped between any two steps is refused",
  () =>
    withSite(async ({ base, root }) => {
      const script = join(base, "swap.mjs");
      fs.writeFileSync(script, SWAP);
      const flags = isBun ? [] : ["run", "-A", "--no-check"];
      const child = spawn(process.execPath, [...flags, script, root]);
      const ended = new Promise((resolve) => child.once("close", resolve));
      try {
        await new Promise((resolve) => child.stdout.once("data", resolve));
        const seen: Record<string, number> = {};
        for (let i = 0; i < 100_000 && !(seen.inside > 500 && seen[404] > 500); i++) {
          const what = read(root, "swap", "file.txt");
          seen[what] = (seen[what] ?? 0) + 1;
        }
        assert(seen.inside > 0 && seen[404] > 0, JSON.stringify(seen));
        assertEquals(Object.keys(seen).sort(), ["404", "inside"]);
      } finally {
        child.kill("SIGKILL");
        await ended;
      }
    }),
  { skip: process.platform === "linux" ? undefined : "only Linux tells the path of a descriptor" },
);

for (
  const [way, reason] of [["by the descriptor", undefined], ["by the path", "off, for this test"]] as const
) {
  test(`what leads out of the root is refused ${way}`, () =>
    withSite(({ base, root }) => {
      replaceLibc(reason);
      try {
        fs.symlinkSync("swap/file.txt", join(root, "in.txt"));
        fs.symlinkSync("../outside/file.txt", join(root, "out.txt"));
        fs.symlinkSync("..", join(root, "up"));
        fs.symlinkSync("swap", join(root, "also"));
        fs.symlinkSync("/proc/self/root", join(root, "slash"));
        fs.mkdirSync(join(base, "root-beside"));
        fs.writeFileSync(join(base, "root-beside/file.txt"), "SECRET");
        fs.symlinkSync("../root-beside", join(root, "beside"));
        assertEquals(read(root, "swap", "file.txt"), "inside");
        assertEquals(read(root, "in.txt"), "inside");
        assertEquals(read(root, "also", "file.txt"), "inside");
        assertEquals(read(root), "directory");
        assertEquals(read(root, "also"), "directory");
        const outside = [["out.txt"], ["up"], ["evil"], ["evil", "file.txt"], ["up", "outside", "file.txt"]];
        outside.push(["slash", "etc", "passwd"], ["beside"], ["beside", "file.txt"]);
        for (const names of outside) assertEquals(read(root, ...names), 404, names.join("/"));
        assertEquals(openBelow(base), [], "what was refused is closed");
      } finally {
        replaceLibc(undefined);
      }
    }));
}

test("a file that was found inside is refused at once if a symlink now leads to it outside", () =>
  withSite(({ base, root }) => {
    const file = join(root, "swap/file.txt");
    for (let i = 0; i < 3; i++) assertEquals(read(root, "swap", "file.txt"), "inside");
    fs.renameSync(file, join(base, "outside/moved.txt"));
    fs.symlinkSync("../../outside/moved.txt", file);
    assertEquals(read(root, "swap", "file.txt"), 404);
    fs.rmSync(file);
    fs.linkSync(join(base, "outside/moved.txt"), file);
    assertEquals(read(root, "swap", "file.txt"), "inside");
    fs.rmSync(file);
    fs.symlinkSync("../../outside/moved.txt", file);
    assertEquals(read(root, "swap", "file.txt"), 404);
  }));

test("a directory that was moved out is refused behind a symlink, a second later at most", () =>
  withSite(async ({ base, root }) => {
    assertEquals(read(root, "swap", "file.txt"), "inside");
    fs.renameSync(join(root, "swap"), join(base, "outside/swap"));
    fs.symlinkSync("../outside/swap", join(root, "swap"));
    const end = performance.now() + 1100;
    while (performance.now() < end) {
      const what = read(root, "swap", "file.txt");
      if (what === 404) break;
      assertEquals(what, "inside");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assertEquals(read(root, "swap", "file.txt"), 404);
  }));

test("a file outside that was changed in the same moment is not taken for the one that was seen", () =>
  withSite(({ base, root }) => {
    const changed = (path: string) => fs.statSync(path, { bigint: true }).ctimeNs;
    const inside = join(root, "swap/file.txt");
    const outside = join(base, "outside/file.txt");
    // The kernel's clock for files ticks some hundred times a second.
    for (let i = 0; i < 1000; i++) {
      fs.writeFileSync(inside, "inside");
      fs.writeFileSync(outside, "SECRET");
      if (changed(inside) === changed(outside)) break;
    }
    assertEquals(changed(inside), changed(outside));
    assertEquals(read(root, "swap", "file.txt"), "inside");
    fs.rmSync(inside);
    fs.symlinkSync("../../outside/file.txt", inside);
    assertEquals(read(root, "swap", "file.txt"), 404);
  }));

test("cached paths are forgotten if the clock is set back", () =>
  withSite(({ base, root }) => {
    const { now } = Date;
    try {
      Date.now = () => now() + 3_600_000;
      assertEquals(read(root, "swap", "file.txt"), "inside");
      Date.now = now;
      fs.renameSync(join(root, "swap"), join(base, "outside/swap"));
      fs.symlinkSync("../outside/swap", join(root, "swap"));
      assertEquals(read(root, "swap", "file.txt"), 404);
    } finally {
      Date.now = now;
    }
  }));

test("if only the path can be checked, it must still lead to the opened file", () =>
  withSite(({ root }) => {
    // A link of /proc leads to the very file that was removed, its text to another one.
    const removed = join(root, "swap/removed.txt");
    fs.writeFileSync(removed, "REMOVED");
    const fd = fs.openSync(removed, "r");
    fs.rmSync(removed);
    fs.writeFileSync(`${removed} (deleted)`, "another");
    fs.symlinkSync(`/proc/self/fd/${fd}`, join(root, "link.txt"));
    replaceLibc("off, for this test");
    try {
      assertEquals(fs.readFileSync(join(root, "link.txt"), "utf8"), "REMOVED");
      assertEquals(fs.realpathSync.native(join(root, "link.txt")), `${removed} (deleted)`);
      assertEquals(read(root, "link.txt"), 404);
    } finally {
      replaceLibc(undefined);
      fs.closeSync(fd);
    }
  }), { only: "deno" }); // Bun reads the path of a descriptor from /proc

test("a file cached inside one root is not inside another, even with the same path", () =>
  withSite(({ base, root }) => {
    assertEquals(read(root, "swap", "file.txt"), "inside");
    for (let i = 0; i < 2; i++) {
      assertEquals(read(base, "root", "evil", "file.txt"), "SECRET"); // there it is inside
      assertEquals(read(root, "evil", "file.txt"), 404);
    }
  }));

test("names that could climb are refused before anything is opened", () => {
  const names = ["", ".", "..", "a/b", "a\\b", "..\\x", "/etc/passwd", ".hidden", "a\0b"];
  // A root that is not there: whatever is opened below it would be 404 as well, so "/" is the root here.
  for (const name of names) assertEquals(read("/", name, "etc", "passwd"), 404, JSON.stringify(name));
  assertEquals(read("/", "etc", "..", "etc", "passwd"), 404);
  for (const name of ["..", ".", ""]) {
    assertEquals(openInside("/", [name, "etc", "passwd"], true).kind, "failure", `${name}, dotfiles shown`);
  }
  assert(String(read("/", "etc", "passwd")).includes("root"));
});

test("dotfiles are refused, also as directories, but for .well-known", () =>
  withSite(({ root }) => {
    for (const name of [".env", ".well-known", "..data"]) {
      fs.mkdirSync(join(root, name));
      fs.writeFileSync(join(root, name, "file.txt"), name);
      fs.writeFileSync(join(root, "swap", `${name}.txt`), name);
    }
    assertEquals(read(root, ".well-known", "file.txt"), ".well-known");
    for (const name of [".env", "..data"]) assertEquals(read(root, name, "file.txt"), 404, name);
    for (const name of [".env", ".well-known", "..data"]) {
      assertEquals(read(root, "swap", `${name}.txt`), 404);
    }
  }));

test("errors of open are reported without details about the server", () => {
  const refused = (code: string) => failure(Object.assign(new Error("/secret/path"), { code }));
  for (const code of ["ENOENT", "ENOTDIR", "ELOOP", "EACCES", "EPERM", "ENXIO"]) {
    assertEquals(refused(code).status, 404, code);
  }
  for (const code of ["EMFILE", "ENFILE"]) {
    assertEquals([refused(code).status, refused(code).problem], [503, code]);
  }
  assertEquals([refused("EIO").status, refused("EIO").problem], [500, "EIO"]);
});

test("a target is decoded once, name by name", () => {
  const names = (target: string, root: string[] = []) => {
    const parsed = parseTarget(target, root);
    return parsed.kind === "target" ? parsed.names : parsed.status;
  };
  assertEquals(names("/a%20b/c%252e?x=/../#f"), ["a b", "c%2e"]);
  assertEquals(names("/%2e%2e/%2F"), ["..", "/"]); // which the boundary refuses
  assertEquals(names("http://host/a/"), ["a"]);
  assertEquals(names("http://host"), []);
  assertEquals(names("/static/a", ["static"]), ["a"]);
  assertEquals(names("/%73tatic/a", ["static"]), ["a"]);
  assertEquals(names("/statics/a", ["static"]), 404);
  assertEquals(names("*"), 400);
  for (const bad of ["/%", "/%zz", "/%00", "/%ff", "/%c0%ae", "/%ed%a0%80"]) {
    assertEquals(names(bad), 400, bad);
  }
});

test("the path of a descriptor is available again after descriptors had run out", () => {
  const system = linux(process.arch === "arm64" ? "arm64" : "x64");
  const libc = loadLibc(system);
  assert(typeof libc !== "string", String(libc));
  const { call, wide } = libc.library;
  const root = fs.realpathSync(folder());
  const fd = fs.openSync(root, "r");
  let isFull = true;
  const open = (path: Uint8Array, flags: number) => isFull ? -1 : call.open(path, flags);
  const library = { ...libc.library, wide, call: { ...call, open } };
  try {
    assertEquals(system.path!(library, fd), undefined);
    isFull = false;
    assertEquals(system.path!(library, fd), root);
  } finally {
    fs.closeSync(fd);
    fs.rmdirSync(root);
  }
}, { skip: process.platform === "linux" ? undefined : "only Linux tells the path of a descriptor" });
