/** curl: conditions, content codings, listings as JSON, many files on one connection. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { test } from "../support/harness.ts";
import { MIB, missing, type Server, serving, type Site } from "../support/site.ts";
import {
  addOld,
  answered,
  assertGot,
  assertMatches,
  curl,
  MODIFIED,
  run,
  sha256,
  urlOf,
} from "./programs.ts";
import { addTree, treeNames } from "./tree.ts";

test("curl -z fetches a file only if it is newer than its copy", () =>
  serving(async (server, site) => {
    addOld(site, "old.bin", randomBytes(5000));
    const copy = join(site.base, "copy");
    const newer = join(site.base, "newer");
    const args = ["-z", copy, "-o", newer, "-w", "%{http_code}", urlOf(server, "/old.bin")];
    await curl(site, "-R", "-o", copy, urlOf(server, "/old.bin"));
    assertGot(copy, site, "/old.bin");
    assertEquals(fs.statSync(copy).mtime, MODIFIED);

    assertEquals(await curl(site, ...args), "304");
    assert(!fs.existsSync(newer));
    assertEquals(await answered(server, "/old.bin", 304), { status: 304, bytes: 0 });

    site.add("old.bin", randomBytes(5000));
    assertEquals(await curl(site, ...args), "200");
    assertGot(newer, site, "/old.bin");
  }), { skip: missing("curl") });

test("curl --etag-compare fetches a file only if it has changed", () =>
  serving(async (server, site) => {
    addOld(site, "old.bin", randomBytes(MIB + 1));
    const etag = join(site.base, "etag");
    const path = join(site.base, "copy");
    const common = ["-o", path, "-w", "%{http_code}", urlOf(server, "/old.bin")];
    assertEquals(await curl(site, "--etag-save", etag, ...common), "200");
    assertGot(path, site, "/old.bin");
    assertMatches(fs.readFileSync(etag, "utf8"), /^(W\/)?"[^"]+"\s*$/);

    assertEquals(await curl(site, "--etag-compare", etag, ...common), "304");
    assertEquals(await answered(server, "/old.bin", 304), { status: 304, bytes: 0 });
    assertGot(path, site, "/old.bin");

    site.add("old.bin", randomBytes(MIB + 1)); // the same length
    assertEquals(await curl(site, "--etag-compare", etag, ...common), "200");
    assertGot(path, site, "/old.bin");
  }), { skip: missing("curl") });

/** An encoding's name in HTTP, its extension, curl's name of it, and how it is made. */
type Encoding = [string, string, string, (content: Buffer) => Buffer];

const ENCODINGS: Encoding[] = [
  ["gzip", ".gz", "libz", gzipSync],
  ["br", ".br", "brotli", brotliCompressSync],
  ["zstd", ".zst", "zstd", (input) => spawnSync("zstd", ["-q", "-c"], { input, maxBuffer: MIB }).stdout],
];

const SCRIPT = "export const much = 'of the same';\n".repeat(40_000);

for (const [encoding, extension, feature, compress] of ENCODINGS) {
  test(
    `curl --compressed gets the ${extension} sibling, and decodes it to the original`,
    () =>
      serving(async (server, site) => {
        addOld(site, "script.js", SCRIPT);
        addOld(site, `script.js${extension}`, compress(Buffer.from(SCRIPT)));
        addOld(site, "alone.js", SCRIPT);
        for (const [target, expected] of [["/script.js", encoding], ["/alone.js", undefined]] as const) {
          const headers = await fetched(site, server, target, "--compressed");
          assertEquals(headers["content-encoding"], expected, target);
          assertStringIncludes(headers.vary?.toLowerCase() ?? "no Vary", "accept-encoding");
          assertStringIncludes(headers["content-type"], "text/javascript");
        }
        const { length } = site.files.get(`/script.js${extension}`)!;
        assertEquals(await answered(server, "/script.js", 200), { status: 200, bytes: length });
        assertEquals((await fetched(site, server, "/script.js"))["content-encoding"], undefined);
      }, { args: ["--precompressed"] }),
    {
      skip: curlWithout(feature) ?? (encoding === "zstd" ? missing("zstd") : undefined),
    },
  );
}

/** Why a test that needs this feature of curl is skipped. */
function curlWithout(feature: string): string | undefined {
  const { stdout, error } = spawnSync("curl", ["--version"], { encoding: "utf8" });
  if (error) return "no curl";
  return new RegExp(`^Features:.*\\b${feature}\\b`, "m").test(stdout) ? undefined : `curl without ${feature}`;
}

/** Fetches `target` by curl, which must give what the site has; the headers of the response. */
async function fetched(
  site: Site,
  server: Server,
  target: string,
  ...args: string[]
): Promise<Record<string, string>> {
  const [head, path] = [join(site.base, "head"), join(site.base, "body")];
  await curl(site, "-D", head, "-o", path, ...args, urlOf(server, target));
  assertGot(path, site, target);
  const lines = fs.readFileSync(head, "latin1").trim().split("\r\n").slice(1);
  return Object.fromEntries(lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
}

test("curl gets a listing as JSON, sorted in the same way", () =>
  serving(async (server, site) => {
    addTree(site);
    const text = await curl(site, "-H", "Accept: application/json", urlOf(server, "/tree/"));
    const { path, entries } = JSON.parse(text) as { path: string; entries: Record<string, unknown>[] };
    assertEquals(path, "/tree/");
    const names = entries.map(({ name }) => name as string);
    assertEquals(names.toSorted(), treeNames(site).toSorted());
    assertEquals(entries.slice(0, 5).map(({ type }) => type), [...Array(4).fill("directory"), "file"]);
    assert(names.indexOf("dir2") < names.indexOf("dir10"));
    assert(names.indexOf("file2.txt") < names.indexOf("file10.txt"));
    for (const { name, type, size, modified } of entries) {
      if (type === "file") assertEquals(size, fs.statSync(site.path(`tree/${name}`)).size, `${name}`);
      assertEquals(new Date(modified as string), MODIFIED, `${name}`);
    }
  }), { skip: missing("curl") });

test(
  "curl gets the right bytes of many files on one connection",
  () =>
    serving(async ({ port }, { base, files }) => {
      const urls = [...files.keys()].flatMap((target) => [`http://127.0.0.1:${port}${target}`, "-o", "-"]);
      const { stdout, code } = await run(base, "curl", ["-sSf", ...urls]);
      assertEquals(code, 0);
      assertEquals(sha256(stdout), sha256(Buffer.concat([...files.values()])));
    }),
  { skip: missing("curl") },
);
