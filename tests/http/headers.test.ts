/** A caller's header fields: one merge for files, error texts, redirects and listings (http/headers.ts). */
import { assert, assertEquals, assertThrows } from "@std/assert";
import * as fs from "node:fs";
import { join } from "@std/path";
import { type Fields, overlay, parseField, putFields } from "../../http/headers.ts";
import { serveDir } from "../../http/mod.ts";
import { serveStatic } from "../../http/node.ts";
import { each, inDirectory, linesOf, write } from "../support/each_server.ts";
import { test } from "../support/harness.ts";
import { ask } from "../support/http_client.ts";
import { startNode } from "../support/http_servers.ts";

const MODIFIED = new Date("2021-03-04T05:06:07Z");

each("compares preconditions with the caller's weak ETag", async ({ add, get }) => {
  add("a.txt", "content", MODIFIED);
  const { status, headers } = await get("/a.txt");
  assertEquals([status, headers.etag], [200, 'W/"v1"']);
  for (const tag of ['W/"v1"', '"v1"', '"x", W/"v1"', "*"]) {
    assertEquals((await get("/a.txt", { "If-None-Match": tag })).status, 304, tag);
  }
  assertEquals((await get("/a.txt", { "If-None-Match": 'W/"v2"' })).status, 200);
  // RFC 9110, 13.1.1 and 13.1.5: both want the strong comparison, in which a weak tag equals nothing.
  for (const tag of ['W/"v1"', '"v1"']) {
    assertEquals((await get("/a.txt", { "If-Match": tag })).status, 412, tag);
    const part = await get("/a.txt", { "If-Range": tag, Range: "bytes=0-1" });
    assertEquals([part.status, String(part.body)], [200, "content"], tag);
  }
}, { options: { headers: ['etag: W/"v1"'] } });

each("sends one Content-Disposition, the caller's, with a body of any size", async ({ add, get }) => {
  for (const size of [10, 200_000, 2_000_000]) {
    add("a.bin", "x".repeat(size));
    for (const method of ["GET", "HEAD"]) {
      const reply = await get("/a.bin", {}, method);
      assertEquals(
        linesOf(reply, "content-disposition"),
        ['attachment; filename="b.bin"'],
        `${method} ${size}`,
      );
      assertEquals(linesOf(reply, "content-length"), [`${size}`]);
    }
  }
}, { options: { headers: ['content-disposition: attachment; filename="b.bin"'] } });

const GIVEN = "Mon, 01 Jan 2001 00:00:00 GMT";

each("compares preconditions with the caller's Last-Modified", async ({ add, get }) => {
  add("a.txt", "content", MODIFIED);
  const reply = await get("/a.txt");
  assertEquals(linesOf(reply, "last-modified"), [GIVEN]);
  assertEquals((await get("/a.txt", { "If-Modified-Since": GIVEN })).status, 304);
  const before = "Sun, 31 Dec 2000 23:59:59 GMT";
  assertEquals((await get("/a.txt", { "If-Modified-Since": before })).status, 200);
  assertEquals((await get("/a.txt", { "If-Unmodified-Since": before })).status, 412);
  assertEquals((await get("/a.txt", { "If-Range": GIVEN, Range: "bytes=0-1" })).status, 206);
  const own = MODIFIED.toUTCString();
  assertEquals((await get("/a.txt", { "If-Range": own, Range: "bytes=0-1" })).status, 200);
}, { options: { headers: [`LAST-MODIFIED: ${GIVEN}`] } });

const CASED = ["content-security-policy: x", "CACHE-CONTROL: no-store", "aLLow: TRACE", "x-own: 1"];

each("puts a caller's field in the place of ours, in any case, on every response", async (served) => {
  served.add("dir/a.txt", "content");
  const targets = ["/dir/a.txt", "/dir/", "/dir", "/missing", "/%"];
  for (const target of targets) {
    for (const method of ["GET", "HEAD", "POST", "OPTIONS"]) {
      const reply = await served.get(target, method === "POST" ? { "Content-Length": "0" } : {}, method);
      const what = `${method} ${target}`;
      assertEquals(linesOf(reply, "content-security-policy"), ["x"], what);
      assertEquals(linesOf(reply, "cache-control"), ["no-store"], what);
      assertEquals(linesOf(reply, "allow"), ["TRACE"], what);
      assertEquals(linesOf(reply, "x-own"), ["1"], what);
    }
  }
}, { options: { headers: CASED, showDirListing: true } });

each("keeps several fields of one name several, and merges Vary", async ({ add, get }) => {
  add("dir/a.txt", "content");
  for (const target of ["/dir/a.txt", "/dir/", "/missing"]) {
    const reply = await get(target);
    const links = linesOf(reply, "link").join(", ");
    assertEquals(links, "</a.css>; rel=preload, </b.js>; rel=preload", target);
    const vary = linesOf(reply, "vary");
    assertEquals(vary.length, 1, target);
    const names = vary[0].toLowerCase().split(", ").sort();
    const ours = { "/dir/a.txt": ["accept-encoding"], "/dir/": ["accept"], "/missing": [] }[target]!;
    assertEquals(names, [...ours, "origin", "x-accept"].sort(), target);
  }
}, {
  options: {
    headers: ["Link: </a.css>; rel=preload", "link: </b.js>; rel=preload", "vary: Origin", "VARY: X-Accept"],
    precompressed: true,
    showDirListing: true,
  },
});

const DESCRIBING = ["content-type: x/y", "CONTENT-ENCODING: gzip", 'Etag: "mine"', "Content-Language: de"];

each("sends fields that describe a file only with files", async ({ add, get }) => {
  add("dir/a.txt", "content");
  const { status, headers } = await get("/dir/a.txt");
  assertEquals([status, headers["content-type"], headers["content-encoding"]], [200, "x/y", "gzip"]);
  assertEquals([headers.etag, headers["content-language"]], ['"mine"', "de"]);
  for (const target of ["/missing", "/%", "/dir", "/dir/", "/dir/a.txt"]) {
    const fields: Record<string, string> = target === "/dir/a.txt" ? { Range: "bytes=100-" } : {};
    const { status, headers, body } = await get(target, fields);
    assert(status >= 300 || target === "/dir/", target);
    assert(/^text\/(plain|html); charset=utf-8$/.test(headers["content-type"]), target);
    for (const name of ["content-encoding", "etag", "content-language"]) {
      assertEquals(headers[name], undefined, `${target} ${name}`);
    }
    assertEquals(headers["content-length"] ?? `${body.length}`, `${body.length}`);
  }
  const unchanged = await get("/dir/a.txt", { "If-None-Match": '"mine"' });
  assertEquals([unchanged.status, unchanged.headers.etag], [304, '"mine"']);
  assert(!/^content-/im.test(unchanged.head), unchanged.head);
}, { options: { headers: DESCRIBING, showDirListing: true } });

const SERVERS = ["Content-Length", "content-range", "Transfer-Encoding", "CONNECTION", "Keep-Alive", "Date"];

for (const name of SERVERS) {
  test(`a header list cannot set ${name}`, () => {
    for (
      const make of [() => parseField(`${name}: 1`), () => serveStatic(".", { headers: { [name]: "1" } })]
    ) {
      assertThrows(make, TypeError, name);
    }
  });
}

test("serveDir rejects if a headers function sets a framing field", () =>
  inDirectory(async (base) => {
    write(join(base, "a.txt"), "content");
    const headers = () => ({ "transfer-encoding": "chunked" });
    const error = await serveDir(new Request("http://test/a.txt"), { fsRoot: base, quiet: true, headers })
      .then(() => undefined, (error) => error);
    assert(error instanceof TypeError && /transfer-encoding/.test(error.message), String(error));
  }));

test("a headers function gets the path as it was opened, and the times", () =>
  inDirectory(async (base) => {
    const path = write(join(base, "dir/index.html"), "content", MODIFIED);
    const seen: unknown[] = [];
    const headers = (path: string, stat: { size: number; mtime: Date; ctime: Date }): [string, string][] => {
      seen.push(path, stat.size, stat.mtime.getTime());
      // Deno tells whole seconds.
      assert(Math.abs(stat.ctime.getTime() - fs.statSync(path).ctimeMs) < 1000, String(stat.ctime));
      return [["Link", "<a>"], ["link", "<b>"]];
    };
    const request = new Request("http://test/dir/");
    const response = await serveDir(request, { fsRoot: base, quiet: true, headers });
    await response.body?.cancel();
    assertEquals(seen, [path, 7, MODIFIED.getTime()]);
    assertEquals(response.headers.get("link"), "<a>, <b>");
  }));

test("putFields replaces fields in any case and keeps the existing spelling", () => {
  const fields: Fields = { "Content-Type": "a", "Vary": "Accept", "ETag": '"1"' };
  putFields(fields, [["content-TYPE", "b"], ["vary", "Origin"], ["VARY", "accept"], ["etag", '"2"'], [
    "etag",
    '"3"',
  ]]);
  assertEquals(fields, { "Content-Type": "b", "Vary": "Origin, accept", "ETag": ['"2"', '"3"'] });
  const starred: Fields = { Vary: "Accept" };
  putFields(starred, [["Vary", "*"]]);
  assertEquals(starred, { Vary: "*" });
  const own: Fields = {};
  putFields(own, [["x-A", "1"], ["X-a", "2"]]);
  assertEquals(own, { "x-A": ["1", "2"] });
});

test("overlay lets the second list replace names of the first", () => {
  const first = [["A", "1"], ["Vary", "x"], ["b", "1"]] as const;
  assertEquals(overlay(first, [["a", "2"], ["vary", "y"]]), [["Vary", "x"], ["b", "1"], ["a", "2"], [
    "vary",
    "y",
  ]]);
});

// What a handler of node:http has set before

test("serveStatic removes fields from a response that frame or describe another message", () =>
  inDirectory(async (base) => {
    write(join(base, "a.txt"), "content", MODIFIED);
    const handler = serveStatic(base);
    const server = await startNode((request, response) => {
      response.setHeader("content-length", "3");
      response.setHeader("Content-Range", "bytes 0-2/9");
      response.setHeader("CONTENT-LANGUAGE", "de");
      response.setHeader("Content-Security-Policy", "x");
      handler(request, response);
    });
    try {
      const whole = await ask(server.port, "/a.txt");
      assertEquals([whole.status, String(whole.body)], [200, "content"]);
      assertEquals(linesOf(whole, "content-length"), ["7"]);
      assertEquals([whole.headers["content-range"], whole.headers["content-language"]], [undefined, "de"]);
      const fields = `If-None-Match: ${whole.headers.etag}\r\n`;
      const unchanged = await ask(server.port, "/a.txt", { fields });
      assertEquals(unchanged.status, 304);
      assert(!/^content-(?!security)/im.test(unchanged.head), unchanged.head);
      assertEquals(unchanged.headers["content-security-policy"], "x");
      const missing = await ask(server.port, "/missing");
      assertEquals([missing.status, String(missing.body)], [404, "404 Not Found\n"]);
      assertEquals(linesOf(missing, "content-language"), []);
      const part = await ask(server.port, "/a.txt", { fields: "Range: bytes=1-2\r\n" });
      assertEquals([linesOf(part, "content-range"), String(part.body)], [["bytes 1-2/7"], "on"]);
      assertEquals(server.errors, []);
    } finally {
      await server.close();
    }
  }));
