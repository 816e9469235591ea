/** What a listing shows beside entries that cannot be looked at, and how. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import process from "node:process";
import { each } from "../support/each_server.ts";
import { missing } from "../support/site.ts";

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

each("lists the other entries beside another user's or a dead FUSE mount", async ({ root, add, get }) => {
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
      "entries that cannot be requested are not listed",
    );
    assertEquals(String((await get("/a.txt")).body), "content");
    for (const [name] of mounts) assert([404, 500].includes((await get(`/${name}/`)).status), name);
  } finally {
    for (const path of mounted) spawnSync("umount", ["-l", path]);
  }
}, { options: { showDirListing: true }, skip: () => noMount });

each("shows the path of a directory and the permissions of each entry", async ({ root, add, get }) => {
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

/** All that a server sends on a connection of its own, where it then ends it. Not put together: that takes long. */
function receive(port: number, fields: string): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket = net.connect(port, "127.0.0.1");
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.once("error", reject);
    socket.once("end", () => resolve(chunks));
    socket.write(`GET /many/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${fields}\r\n`);
  });
}

/** The names that the links of a listing lead to. */
function linksOf(body: { toString(): string }): string[] {
  return Array.from(String(body).matchAll(/<a href="\.\/([^"]*)">/g), ([, name]) => decodeURIComponent(name));
}

const NAMES = Array.from({ length: 20_000 }, (_, i) => `number ${i}, of twenty thousand & more ä.txt`);

each("answers others while it lists 20,000 names", async ({ root, add, port, get }) => {
  const directory = join(root, "many");
  fs.mkdirSync(directory);
  for (const name of NAMES) fs.closeSync(fs.openSync(join(directory, name), "w"));
  add("small.txt", "small");
  for (const accept of ["text/html", "application/json"]) {
    // Not by the clock: a machine with other work would make of each turn a long one.
    const cpu = () => Object.values(process.cpuUsage()).reduce((sum, µs) => sum + µs / 1000, 0);
    const began = cpu();
    let open = true;
    const listing = receive(port, `Accept: ${accept}\r\n`).finally(() => open = false);
    let longest = 0;
    while (open) {
      const asked = cpu();
      assertEquals(String((await get("/small.txt")).body), "small");
      longest = Math.max(longest, cpu() - asked);
    }
    const took = cpu() - began;
    const text = String(Buffer.concat(await listing));
    const body = text.slice(text.indexOf("\r\n\r\n") + 4);
    if (accept === "text/html") assertEquals(linksOf(body), NAMES.slice(0, 1000));
    else assertEquals(JSON.parse(body).entries.map(({ name }: { name: string }) => name), NAMES);
    assert(longest < took / 5, `${accept}: another request waited while ${longest} ms of ${took} were spent`);
  }
}, { options: { showDirListing: true } });

each(
  "lists names that are equal to a collator in one order, and not in the directory's",
  async ({ add, get }) => {
    const names = ["0000001", "000001", "00001", "0001", "001", "01", "1", "e\u0301", "\u00e9"];
    for (const name of names) add(`equal/${name}`, "");
    const { body } = await get("/equal/", { Accept: "application/json" });
    assertEquals(JSON.parse(String(body)).entries.map(({ name }: { name: string }) => name), names);
  },
  { options: { showDirListing: true } },
);

each("sorts a listing by name, size and date, both ways, directories first", async ({ root, add, get }) => {
  add("d/file10.txt", "1", 1_600_000_000);
  add("d/file2.txt", "333", 1_500_000_000);
  add("d/B.txt", "22", 1_700_000_000);
  add("d/same.txt", "22", 1_700_000_000);
  add("d/sub2/x", "", 0);
  add("d/sub10/x", "", 0);
  for (const name of ["sub2", "sub10"]) fs.utimesSync(join(root, "d", name), 1_400_000_000, 1_400_000_000);
  const files: Record<string, string[]> = {
    "": ["B.txt", "file2.txt", "file10.txt", "same.txt"],
    "?sort=name&order=desc": ["same.txt", "file10.txt", "file2.txt", "B.txt"],
    "?sort=size": ["file2.txt", "B.txt", "same.txt", "file10.txt"],
    "?sort=size&order=asc": ["file10.txt", "B.txt", "same.txt", "file2.txt"],
    "?sort=date&order=desc": ["B.txt", "same.txt", "file10.txt", "file2.txt"],
    "?sort=date&order=asc": ["file2.txt", "file10.txt", "B.txt", "same.txt"],
    "?sort=nonsense&order=nonsense&page=0x1&page=-1": ["B.txt", "file2.txt", "file10.txt", "same.txt"],
  };
  for (const [query, names] of Object.entries(files)) {
    const directories = query.includes("name&order=desc") ? ["sub10", "sub2"] : ["sub2", "sub10"];
    const { body } = await get(`/d/${query}`);
    assertEquals(linksOf(body), [...directories.map((name) => `${name}/`), ...names], query);
    const json = JSON.parse(String((await get(`/d/${query}`, { Accept: "application/json" })).body));
    assertEquals(json.entries.map(({ name }: { name: string }) => name), [...directories, ...names], query);
  }
  const heads = async (query: string) =>
    Array.from(
      String((await get(`/d/${query}`)).body).matchAll(/<th[^>]*><a href="([^"]*)" rel="nofollow">/g),
      ([, href]) => href.replaceAll("&amp;", "&"),
    );
  // The column that it is sorted by is turned round; the others begin with what is wanted most.
  assertEquals(await heads(""), ["?sort=name&order=desc", "?sort=size&order=desc", "?sort=date&order=desc"]);
  assertEquals(await heads("?sort=size"), [
    "?sort=name&order=asc",
    "?sort=size&order=asc",
    "?sort=date&order=desc",
  ]);
}, { options: { showDirListing: true } });

each("shows a listing in pages of 1,000, and how much there is", async ({ root, get }) => {
  fs.mkdirSync(join(root, "many/sub"), { recursive: true });
  const names = Array.from({ length: 2345 }, (_, i) => `${i}.txt`);
  for (const name of names) fs.closeSync(fs.openSync(join(root, "many", name), "w"));
  const all = ["sub/", ...names];
  const seen: string[] = [];
  let next: string | undefined = "";
  for (let page = 1; next !== undefined; page++) {
    const body: string = String((await get(`/many/${next}`)).body);
    assertStringIncludes(body, "1 directory, 2,345 files");
    assertStringIncludes(body, `Page ${page} of 3`);
    seen.push(...linksOf(body));
    next = /<a href="([^"]*)">Next<\/a>/.exec(body)?.[1].replaceAll("&amp;", "&");
  }
  assertEquals(seen, all);
  const last = String((await get("/many/?sort=name&order=desc&page=999")).body);
  assertStringIncludes(last, "Page 3 of 3");
  assertEquals(linksOf(last).at(-1), "0.txt");
  assert(!last.includes(">Next</a>") && last.includes(">First</a>"), "the last page leads back only");
}, { options: { showDirListing: true } });

each("says that a directory is empty", async ({ root, add, get }) => {
  fs.mkdirSync(join(root, "none"));
  const { body } = await get("/none/");
  assertStringIncludes(String(body), "This directory is empty.");
  assertStringIncludes(String(body), "0 directories, 0 files");
  add("some/one.txt", "1");
  const one = String((await get("/some/")).body);
  assertStringIncludes(one, "0 directories, 1 file<");
  assert(!one.includes("is empty"));
}, { options: { showDirListing: true } });
