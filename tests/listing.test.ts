/** What a listing shows beside entries that cannot be looked at, and how. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { each } from "./each_server.ts";
import { missing } from "./site.ts";

/** Mounts a FUSE file system of `user` that nobody serves: EACCES for others, also for root, ENOTCONN for `user`. */
const MOUNT = `import ctypes, os, sys
fd = os.open("/dev/fuse", os.O_RDWR)
options = "fd=%d,rootmode=40000,user_id=%s,group_id=0" % (fd, sys.argv[2])
sys.exit(0 if ctypes.CDLL(None).mount(b"dead", sys.argv[1].encode(), b"fuse", 0, options.encode()) == 0 else 1)`;

function mount(path: string, user: number): boolean {
  return spawnSync("python3", ["-c", MOUNT, path, String(user)]).status === 0;
}

const noMount = missing("python3") ?? missing("umount") ??
  (process.getuid?.() === 0 && fs.existsSync("/dev/fuse") ? undefined : "no /dev/fuse for root");

each("lists the rest beside a FUSE mount that is another user's or dead", async ({ root, add, get }) => {
  add("a.txt", "content");
  const mounts: [string, number, string][] = [["another", 54321, "EACCES"], ["dead", 0, "ENOTCONN"]];
  const mounted: string[] = [];
  try {
    for (const [name, user, code] of mounts) {
      const path = join(root, name);
      fs.mkdirSync(path);
      assert(mount(path, user), "mounts");
      mounted.push(path);
      let seen = "";
      try {
        fs.lstatSync(path);
      } catch (error) {
        seen = (error as { code?: string }).code ?? "";
      }
      assertEquals(seen, code);
    }
    const page = await get("/");
    assertEquals(page.status, 200);
    assertStringIncludes(String(page.body), '<a href="./a.txt">a.txt</a>');
    assert(
      !page.body.includes("./another") && !page.body.includes("./dead"),
      "what cannot be had is not shown",
    );
    assertEquals(String((await get("/a.txt")).body), "content");
    for (const [name] of mounts) assert([404, 500].includes((await get(`/${name}/`)).status), name);
  } finally {
    for (const path of mounted) spawnSync("umount", ["-l", path]);
  }
}, { options: { showDirListing: true }, skip: () => noMount });

each("shows where a directory is, and what may be done with each entry", async ({ root, add, get }) => {
  const path = add("a&b/c/file.txt", "content");
  fs.chmodSync(path, 0o640);
  fs.mkdirSync(join(root, "a&b/c/none"), { mode: 0o755 });
  const { body } = await get("/a&b/c/");
  assertStringIncludes(
    String(body),
    '<a href="../../">home</a>/<a href="../">a&amp;b</a>/<a href=".">c</a>/',
  );
  assertStringIncludes(
    String(body),
    '<td class="mode">- rw- r-- --- </td><td><a href="./file.txt">file.txt</a></td>',
  );
  assertStringIncludes(
    String(body),
    '<td class="mode">d rwx r-x r-x </td><td><a href="./none/">none/</a></td>',
  );
  const { entries } = JSON.parse(String((await get("/a&b/c/", { Accept: "application/json" })).body));
  assertEquals(Object.keys(entries[0]).sort(), ["modified", "name", "type"]);
}, { options: { showDirListing: true } });
