/** Where a path that is spelled in another way than what it leads to is sent: never elsewhere, and behind any proxy. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { locationOf } from "../../http/location.ts";
import { serveDir } from "../../http/mod.ts";
import { serveStatic } from "../../http/node.ts";
import { each, inDirectory, write } from "../support/each_server.ts";
import { test } from "../support/harness.ts";
import { ask } from "../support/http_client.ts";
import { startNode } from "../support/http_servers.ts";

const LOCATIONS: [path: string, slash: boolean, location: string, leadsTo: string][] = [
  ["/dir", true, "dir/", "/dir/"],
  ["/a/dir", true, "dir/", "/a/dir/"],
  ["/file.txt/", false, "../file.txt", "/file.txt"],
  ["/a/file.txt/", false, "../file.txt", "/a/file.txt"],
  ["//x", false, "../x", "/x"],
  ["///x", false, "../../x", "/x"],
  ["//dir", true, "../dir/", "/dir/"],
  ["/a//b", false, "../b", "/a/b"],
  ["/a//b/", true, "../../b/", "/a/b/"],
  ["/a///b//c", false, "../../../../b/c", "/a/b/c"],
  ["//evil.example/a", false, "../../evil.example/a", "/evil.example/a"],
  ["/a//", true, "../", "/a/"],
  ["//", true, "../", "/"],
  ["/x:y", true, "./x:y/", "/x:y/"],
  ["/./dir", true, "dir/", "/dir/"],
  ["/dir/%2e", true, "./", "/dir/"],
  ['/a b<">^`{|}', true, "a%20b%3C%22%3E%5E%60%7B%7C%7D/", "/a%20b%3C%22%3E%5E%60%7B%7C%7D/"],
  ["/\u2603", true, "%E2%98%83/", "/%E2%98%83/"],
  ["/%E2%98%83", true, "%E2%98%83/", "/%E2%98%83/"],
];

for (const [path, slash, location, leadsTo] of LOCATIONS) {
  test(`${path} is redirected to ${location}`, () => {
    assertEquals(locationOf({ path, query: "" }, slash), location);
    const { host, pathname } = new URL(location, `http://test${path}`);
    // The URL standard leaves some characters of a path as they are that RFC 3986 does not have there.
    assertEquals([host, decodeURI(pathname)], ["test", decodeURI(leadsTo)]);
    const behind = new URL(location, `http://test/prefix${path}`);
    assertEquals(decodeURI(behind.pathname), `/prefix${decodeURI(leadsTo)}`);
  });
}

test("a target that node:http decodes as Latin-1 is treated as UTF-8 if it is valid UTF-8", () => {
  const bytes = Buffer.from("?tag=\u00fc\u2603").toString("latin1");
  assertEquals(locationOf({ path: "/dir", query: bytes }, true), "dir/?tag=%C3%BC%E2%98%83");
  assertEquals(locationOf({ path: "/dir", query: "?tag=\u00fc" }, true), "dir/?tag=%C3%BC");
  assertEquals(locationOf({ path: "/dir", query: "?tag=\u{1f600}" }, true), "dir/?tag=%F0%9F%98%80");
  assertEquals(locationOf({ path: "/dir", query: "?a=%zz&b=/..//" }, true), "dir/?a=%zz&b=/..//");
});

each("redirects to a directory's slash with an ASCII Location, whatever the query holds", async (served) => {
  served.add("dir/index.html", "index");
  for (const tag of ["\u00fc", "\u2603", "\u{1f600}"]) {
    const { status, headers, body } = await served.get(`/dir?tag=${Buffer.from(tag).toString("latin1")}`);
    assertEquals([status, decodeURI(headers.location)], [301, `dir/?tag=${tag}`]);
    assert(/^[\x21-\x7e]+$/.test(headers.location), headers.location);
    assertEquals(String(body), `Redirecting to ${headers.location}\n`);
  }
  // A byte that is no UTF-8, which Deno.serve refuses itself
  const { status, headers } = await served.get("/dir?tag=\xff");
  assert(status === 400 || /^dir\/\?tag=(%[0-9a-f]{2})+$/i.test(headers.location), `${status}`);
}, { skip: (kind) => kind === "node:http" && "node:http refuses a target that is not ASCII" });

each(
  "redirects doubled slashes and a file's slash, and answers what its Location leads to",
  async (served) => {
    served.add("a/b.txt", "content");
    served.add("a/dir/index.html", "index");
    const expected: Record<string, [string, string]> = {
      "//a/b.txt": ["/a/b.txt", "content"],
      "/a//b.txt?q": ["/a/b.txt?q", "content"],
      "/a///dir/": ["/a/dir/", "index"],
      "/a//dir": ["/a/dir/", "index"],
      "/a/b.txt/": ["/a/b.txt", "content"],
      "/a/b.txt//": ["/a/b.txt", "content"],
      "/a/dir//": ["/a/dir/", "index"],
    };
    for (const [target, [leadsTo, content]] of Object.entries(expected)) {
      const { status, headers } = await served.get(target);
      const { host, pathname, search } = new URL(headers.location, `http://test${target}`);
      assertEquals([status, host, pathname + search], [301, "test", leadsTo], target);
      assertEquals(String((await served.get(pathname + search)).body), content, target);
    }
    for (const target of ["//none", "/a//none/", "//a/none.txt", "/a/b.txt/c"]) {
      const { status, headers } = await served.get(target);
      assertEquals([status, headers.location], [404, undefined], target);
    }
  },
);

test("serveStatic redirects by originalUrl, and lets others have a file's path with a slash", () =>
  inDirectory(async (base) => {
    write(join(base, "sn\u00f6w/index.html"), "index");
    write(join(base, "a.txt"), "content");
    const handler = serveStatic(base);
    const closed = serveStatic(base, { redirect: false });
    const server = await startNode((request, response) => {
      const url = request.url!;
      Object.assign(request, { originalUrl: url, url: url.replace(/^\/mount(less)?/, "") || "/" });
      if (url.endsWith("snow")) request.url = "/sn\u00f6w"; // rewritten, by a handler before
      (url.startsWith("/mountless") ? closed : handler)(request, response, () => response.end("NEXT"));
    });
    try {
      assertEquals((await ask(server.port, "/mount/snow")).headers.location, "snow/");
      assertEquals((await ask(server.port, "/mount/sn%C3%B6w?q")).headers.location, "sn%C3%B6w/?q");
      assertEquals((await ask(server.port, "/mount")).headers.location, "mount/");
      assertEquals(String((await ask(server.port, "/mount/a.txt/")).body), "NEXT");
      assertEquals((await ask(server.port, "/mount//a.txt")).headers.location, "../a.txt");
      assertEquals(String((await ask(server.port, "/mountless/sn%C3%B6w")).body), "NEXT");
      assertEquals(String((await ask(server.port, "/mountless//a.txt")).body), "content");
      assertEquals(server.errors, []);
    } finally {
      await server.close();
    }
  }));

test("serveDir names the status of each Response", () =>
  inDirectory(async (base) => {
    write(join(base, "a.txt"), "content");
    fs.mkdirSync(join(base, "dir"));
    const texts: [string, RequestInit, number, string][] = [
      ["/a.txt", {}, 200, "OK"],
      ["/a.txt", { method: "HEAD" }, 200, "OK"],
      ["/a.txt", { headers: { Range: "bytes=0-1" } }, 206, "Partial Content"],
      ["/a.txt", { headers: { "If-None-Match": "*" } }, 304, "Not Modified"],
      ["/a.txt", { headers: { "If-Match": '"x"' } }, 412, "Precondition Failed"],
      ["/a.txt", { headers: { Range: "bytes=9-" } }, 416, "Range Not Satisfiable"],
      ["/a.txt", { method: "POST" }, 405, "Method Not Allowed"],
      ["/a.txt", { method: "OPTIONS" }, 204, "No Content"],
      ["/dir", {}, 301, "Moved Permanently"],
      ["/dir/", {}, 200, "OK"],
      ["/none", {}, 404, "Not Found"],
      ["/%25%", {}, 400, "Bad Request"],
    ];
    for (const [path, init, status, text] of texts) {
      const request = new Request(`http://test${path}`, init);
      const response = await serveDir(request, { fsRoot: base, quiet: true, showDirListing: true });
      await response.body?.cancel();
      assertEquals([response.status, response.statusText], [status, text], path);
    }
  }));
