/** Options: what does not exist or is of another type is refused by its name, and never ignored. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { serveDir, type ServeDirOptions, serveFile, type ServeFileOptions } from "../../http/mod.ts";
import { sendFile, serveStatic, type ServeStaticOptions } from "../../http/node.ts";
import { each, inDirectory, write } from "../support/each_server.ts";
import { test } from "../support/harness.ts";

const REFUSED: [options: unknown, named: string][] = [
  [{ fsroot: "public" }, "there is no option fsroot: it is named fsRoot"],
  [{ nonsense: 1 }, "there is no option nonsense"],
  [{ toString: 1 }, "there is no option toString"],
  [{ cacheControl: false }, "cacheControl must be a string, not false"],
  [{ maxAge: "1d" }, "maxAge must be a number, not 1d"],
  [{ index: null }, "index must be a list of strings, not null"],
  [{ index: "index.html" }, "index must be a list of strings, not index.html"],
  [{ showIndex: "yes" }, "showIndex must be true or false, not yes"],
  [{ headers: { "X-Own": "1" } }, "headers must be a list of lines or a function"],
  [{ headers: [1] }, 'a header must be "Name: value", not 1'],
  [{ precompressed: "br" }, "precompressed must be true or false or a list of strings, not br"],
  [{ fallthrough: true }, "fallthrough must be a function, not true"],
  [{ quiet: 0 }, "quiet must be true or false, not 0"],
  [{ etagAlgorithm: 256 }, "etagAlgorithm must be a string or an object, not 256"],
  [{ urlRoot: 1 }, "urlRoot must be a string, not 1"],
  [{ cacheControl: "a\r\nb: c" }, ""],
  [null, "options must be an object, not null"],
  ["public", "options must be an object, not public"],
  [[], "options must be an object, not []"],
];

for (const [options, named] of REFUSED) {
  test(`serveDir refuses ${JSON.stringify(options)}`, async () => {
    const request = new Request("http://test/");
    const error = await assertRejects(() => serveDir(request, options as ServeDirOptions), TypeError);
    assertStringIncludes((error as unknown as Error).message, named);
  });
}

test("serveFile refuses options of serveDir and an invalid fileInfo", async () => {
  const request = new Request("http://test/");
  for (const options of [{ fsRoot: "." }, { quiet: true }, { fileInfo: 1 }, null] as unknown[]) {
    await assertRejects(() => serveFile(request, "x", options as ServeFileOptions), TypeError);
  }
});

const REFUSED_BY_NODE: [options: unknown, named: string][] = [
  [{ fsRoot: "public" }, "there is no option fsRoot"],
  [{ maxage: [] }, "maxage must be a number or a string"],
  [{ setHeaders: 3 }, "setHeaders must be a function, not 3"],
  [{ index: true }, "index must be false or a string or a list of strings, not true"],
  [{ extensions: 42 }, "extensions must be false or a string or a list of strings, not 42"],
  [{ dotfiles: "show" }, 'dotfiles must be "allow", "deny", "ignore", not show'],
  [{ dotfiles: "allow", showDotfiles: true }, "dotfiles cannot be used with showDotfiles"],
  [{ etag: "W/" }, "etag must be true or false, not W/"],
  [{ cacheControl: "no-store", maxAge: 1 }, "cacheControl as a text cannot be used with"],
  [{ start: 1 }, "there is no option start"],
  ["public", "options must be an object"],
];

for (const [options, named] of REFUSED_BY_NODE) {
  test(`serveStatic refuses ${JSON.stringify(options)}`, () => {
    let message = "nothing was thrown";
    try {
      serveStatic(".", options as ServeStaticOptions);
    } catch (error) {
      assert(error instanceof TypeError);
      message = error.message;
    }
    assertStringIncludes(message, named);
  });
}

test("serveStatic refuses an invalid maxAge and an invalid root", () => {
  for (const maxAge of [-1, NaN, "soon", "1 fortnight", "", "-1d"]) {
    assertThrows(() => serveStatic(".", { maxAge }), RangeError);
  }
  for (const root of [undefined, "", 42, null] as unknown[]) {
    assertThrows(() => serveStatic(root as string), TypeError);
  }
});

test("sendFile refuses options of serveStatic before it looks at anything", async () => {
  const [request, response] = [{}, {}] as unknown as [IncomingMessage, ServerResponse];
  await assertRejects(() => sendFile(request, response, "x", { redirect: true } as object), TypeError);
});

/** What is written to the console's error stream while `body` runs. */
async function errorsOf(body: () => Promise<void>): Promise<string[]> {
  const { error } = console;
  const lines: string[] = [];
  console.error = (line: unknown) => void lines.push(String(line));
  try {
    await body();
  } finally {
    console.error = error;
  }
  return lines;
}

test("a missing root is logged once by serveDir and serveStatic", () =>
  inDirectory(async (base) => {
    const lines = await errorsOf(async () => {
      for (let i = 0; i < 3; i++) {
        const fsRoot = join(base, "missing");
        const response = await serveDir(new Request("http://test/a.txt"), { fsRoot, quiet: true });
        assertEquals(response.status, 404);
      }
      for (let i = 0; i < 2; i++) serveStatic(join(base, "missing-too"));
      fs.mkdirSync(join(base, "there"));
      serveStatic(join(base, "there"));
      await serveDir(new Request("http://test/a.txt"), { fsRoot: join(base, "there"), quiet: true });
    });
    assertEquals(lines.length, 2);
    for (const [i, name] of ["missing", "missing-too"].entries()) {
      assert(lines[i].startsWith("the root does not exist") && lines[i].endsWith(join(base, name)), lines[i]);
    }
  }));

test("a root that is a file is logged once by serveDir and serveStatic", () =>
  inDirectory(async (base) => {
    const files = ["a.txt", "b.txt"].map((name) => write(join(base, name), "content"));
    const lines = await errorsOf(async () => {
      for (const target of ["/", "/a.txt", ""]) {
        const request = new Request(`http://test${target}`);
        assertEquals((await serveDir(request, { fsRoot: files[0], quiet: true })).status, 404, target);
      }
      for (let i = 0; i < 2; i++) serveStatic(files[1]);
    });
    assertEquals(
      lines,
      files.map((path) => `the root is not a directory, so every request below it gets 404: ${path}`),
    );
  }));

test("serveFile takes the time of fileInfo, as long as the file is the one that it is of", () =>
  inDirectory(async (base) => {
    const path = write(join(base, "a.txt"), "content", new Date("2021-03-04T05:06:07.890Z"));
    const { size, mtime, ctime, dev, ino } = fs.statSync(path);
    const told = { isFile: true, isDirectory: false, size, mtime, ctime, dev, ino };
    const get = async (fileInfo: ServeFileOptions["fileInfo"]) => {
      const response = await serveFile(new Request("http://test/"), path, { fileInfo });
      await response.body?.cancel();
      return response;
    };
    const own = await get(undefined);
    const same = await get(told);
    assertEquals([...same.headers], [...own.headers]);
    const given = new Date("2001-01-01T00:00:00Z");
    const other = await get({ ...told, mtime: given });
    assertEquals(other.headers.get("last-modified"), given.toUTCString());
    assert(other.headers.get("etag") !== own.headers.get("etag"));
    const unknown = await get({ ...told, mtime: null });
    assertEquals([unknown.status, unknown.headers.get("last-modified")], [200, null]);
    assert(unknown.headers.has("etag"));
    assertEquals((await get({ ...told, isDirectory: true })).status, 404);
    // The caller has looked at another file than the one that is sent: its time is not this one's.
    const stale = [{ size: size + 1 }, { ino: ino + 1 }, { dev: dev + 1 }, { ctime: new Date(1e12) }];
    for (const difference of stale) {
      const response = await get({ ...told, mtime: given, ...difference });
      assertEquals([...response.headers], [...own.headers], JSON.stringify(difference));
    }
  }));

each("answers a path too long for the system with 404", async ({ get }) => {
  for (const target of [`/${"a".repeat(300)}`, `/${"%C3%A4".repeat(200)}`, `/${"a/".repeat(3000)}b`]) {
    const { status, body } = await get(target, { Accept: "text/html" });
    assertEquals([status, String(body)], [404, "404 Not Found\n"]);
  }
});

each("answers a page's path too long for the system with the page", async ({ add, get }) => {
  add("index.html", "page");
  const { status, body } = await get(`/${"a".repeat(300)}`, { Accept: "text/html" });
  assertEquals([status, String(body)], [200, "page"]);
}, { options: { spa: true } });

each("follows symlinks out of the root only with followSymlinks", async ({ base, root, get }) => {
  write(join(base, "store/page.html"), "page");
  write(join(base, "store/dir/a.txt"), "content");
  fs.symlinkSync("../store/page.html", join(root, "index.html"));
  fs.symlinkSync(join(base, "store/dir"), join(root, "linked"));
  for (const [target, content] of [["/", "page"], ["/index.html", "page"], ["/linked/a.txt", "content"]]) {
    assertEquals(String((await get(target)).body), content, target);
  }
  const { entries } = JSON.parse(String((await get("/linked/", { Accept: "application/json" })).body));
  assertEquals(entries.map(({ name }: { name: string }) => name), ["a.txt"]);
  assertEquals((await get("/linked/../../store/page.html")).body.includes("page"), false);
}, {
  options: { followSymlinks: true, showDirListing: true },
});

each("serves a text file without an extension as text, and svgz as gzip-coded SVG", async ({ add, get }) => {
  const types: [string, string | Uint8Array, string][] = [
    ["LICENSE", "The MIT License\n", "text/plain; charset=utf-8"],
    ["empty", "", "text/plain; charset=utf-8"],
    ["umlaut", "\u00e4".repeat(2000), "text/plain; charset=utf-8"],
    ["odd", `x${"\u2603".repeat(2000)}`, "text/plain; charset=utf-8"],
    ["binary", "a\0b", "application/octet-stream"],
    ["data.unheard-of", "text", "application/octet-stream"],
  ];
  for (const [name, content, type] of types) {
    add(name, String(content));
    assertEquals((await get(`/${name}`)).headers["content-type"], type, name);
  }
  fs.writeFileSync(add("latin", ""), new Uint8Array([0x66, 0xfc, 0x72]));
  assertEquals((await get("/latin")).headers["content-type"], "application/octet-stream");
  add("icon.svgz", "compressed");
  add("icon.svgz.br", "twice");
  const { headers, body } = await get("/icon.svgz", { "Accept-Encoding": "br" });
  assertEquals([headers["content-type"], headers["content-encoding"]], ["image/svg+xml", "gzip"]);
  assertEquals(String(body), "compressed");
}, { options: { precompressed: true } });
