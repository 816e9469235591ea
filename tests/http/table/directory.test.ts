/** Which file of a directory a URL names: index, spa, extensions, urlRoot, dotfiles, redirects. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { ask } from "../../support/http_client.ts";
import { assertNotModified, assertWhole } from "./assert_reply.ts";
import { BROWSER, CONTENT, each } from "./place.ts";

each("sends index.html for a page that is missing, as spa says", async (place) => {
  const index = place.add("index.html", "the application");
  place.add("sub/page.html", "a page");
  for (const target of ["/", "/missing", "/deep/er/page", "/missing/", "/user/%C3%A4?tab=1"]) {
    const reply = await place.get(target, BROWSER);
    assertWhole(reply, index);
    assertEquals(reply.headers["content-type"], "text/html; charset=utf-8", target);
    assertEquals((await place.head(target, BROWSER)).headers["content-length"], `${index.length}`);
  }
  const { etag } = (await place.get("/", BROWSER)).headers;
  assertNotModified(await place.get("/missing", { ...BROWSER, "If-None-Match": etag }));
  assertEquals(String((await place.get("/sub/page.html", BROWSER)).body), "a page");
  for (const target of ["/missing.js", "/assets/missing.css", "/favicon.ico"]) {
    assertEquals((await place.get(target, BROWSER)).status, 404, target);
  }
  assertEquals((await place.get("/api/users", { Accept: "application/json" })).status, 404);
  assertEquals((await ask(place.port, "/missing", { method: "DELETE" })).status, 405);
}, { options: { spa: true } });

each("sends the file that spa names", async (place) => {
  const shell = place.add("app/shell.html", "the shell");
  assertWhole(await place.get("/missing", BROWSER), shell);
  assertEquals((await place.get("/missing.js", BROWSER)).status, 404);
}, { options: { spa: "app/shell.html" } });

each("answers 404 where the file that spa names is missing too", async (place) => {
  assertEquals((await place.get("/missing", BROWSER)).status, 404);
}, { options: { spa: true } });

each("tries the names of index in order", async (place) => {
  place.add("a/home.htm", "home");
  place.add("a/index.html", "index");
  place.add("b/index.html", "index");
  place.add("c/other.html", "other");
  fs.mkdirSync(place.path("d/home.htm"), { recursive: true });
  place.add("d/index.html", "index");
  const expected: Record<string, [number, string?]> = {
    "/a/": [200, "home"],
    "/b/": [200, "index"],
    "/c/": [404],
    "/d/": [200, "index"],
  };
  for (const [target, [status, content]] of Object.entries(expected)) {
    const reply = await place.get(target);
    assertEquals(reply.status, status, target);
    if (content) assertEquals(String(reply.body), content);
  }
}, { options: { index: ["home.htm", "index.html"] } });

each("shows no index where showIndex is false", async (place) => {
  place.add("index.html", "index");
  assertEquals((await place.get("/")).status, 404);
  assertEquals((await place.get("/index.html")).status, 200);
}, { options: { showIndex: false } });

each("tries extensions in order, a file's very name first", async (place) => {
  for (const name of ["a", "a.html", "b.html", "b.txt", "c.txt", "d.json"]) {
    place.add(name, `this is ${name}`);
  }
  fs.mkdirSync(place.path("c.html"));
  const expected: Record<string, string | undefined> = {
    "/a": "this is a",
    "/b": "this is b.html",
    "/c": "this is c.txt",
    "/d": undefined,
    "/b/": undefined,
  };
  for (const [target, content] of Object.entries(expected)) {
    const { status, body } = await place.get(target);
    assertEquals(status, content ? 200 : 404, target);
    if (content) assertEquals(String(body), content);
  }
  assertEquals((await place.get("/b")).headers["content-type"], "text/html; charset=utf-8");
}, { options: { extensions: ["html", "txt"] } });

each("leaves .html away where cleanUrls says so", async (place) => {
  const page = place.add("about.html", "about");
  const reply = await place.get("/about", { Range: "bytes=1-2" });
  assertEquals([reply.status, String(reply.body)], [206, "bo"]);
  assertWhole(await place.get("/about?q"), page);
  assertWhole(await place.get("/about.html"), page);
  assertEquals((await place.get("/missing")).status, 404);
  assertEquals((await place.get("/10")).status, 404);
}, { options: { cleanUrls: true } });

for (const urlRoot of ["static", "/static/"]) {
  each(`serves below urlRoot ${urlRoot} only`, async (place) => {
    place.add("index.html", "index");
    place.add("sub/index.html", "sub");
    place.add("static/inner.txt", "inner");
    assertWhole(await place.get("/static/10.bin"), CONTENT.get(10)!);
    assertEquals(String((await place.get("/static/")).body), "index");
    assertEquals(String((await place.get("/static/static/inner.txt")).body), "inner");
    const { status, headers } = await place.get("/static/sub?q=1");
    assertEquals([status, headers.location], [301, "sub/?q=1"]);
    for (const target of ["/10.bin", "/", "/sub/", "/staticx/10.bin", "/static10.bin", "/STATIC/10.bin"]) {
      assertEquals((await place.get(target)).status, 404, target);
    }
    for (const target of ["/static/../10.bin", "/static/../../secret.txt", "//10.bin"]) {
      const reply = await place.get(target);
      assert(reply.status === 404 && !reply.body.includes("SECRET"), target);
    }
  }, { options: { urlRoot } });
}

const DOTFILES = [".env", ".git/config", "dir/.hidden/file.txt", ".well-known2/x"];

each("shows no dotfiles but .well-known", async (place) => {
  for (const name of DOTFILES) place.add(name, "SECRET");
  place.add(".well-known/security.txt", "Contact: x");
  for (const target of [...DOTFILES.map((name) => `/${name}`), "/%2eenv", "/.git", "/.git/"]) {
    assertEquals((await place.get(target)).status, 404, target);
  }
  assertEquals(String((await place.get("/.well-known/security.txt")).body), "Contact: x");
});

each("shows dotfiles where showDotfiles says so", async (place) => {
  for (const name of DOTFILES) {
    const content = place.add(name, `this is ${name}`);
    assertWhole(await place.get(`/${name}`), content);
  }
  for (
    const target of ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/.git/../../secret.txt"]
  ) {
    assertEquals((await place.get(target)).status, 404, target);
  }
}, { options: { showDotfiles: true } });

each("redirects a directory to its slash, the query kept", async (place) => {
  place.add("sub/index.html", "sub");
  place.add("a b%/index.html", "odd");
  fs.mkdirSync(place.path("bare"));
  const expected: Record<string, [number, string?]> = {
    "/sub": [301, "sub/"],
    "/sub?": [301, "sub/?"],
    "/sub?a=/../b&c=%2f": [301, "sub/?a=/../b&c=%2f"],
    "/a%20b%25?x": [301, "a%20b%25/?x"],
    "/bare": [301, "bare/"],
    "/sub/": [200, undefined],
    "/bare/": [404, undefined],
    "/10.bin/": [301, "../10.bin"],
    "/10.bin/x": [404, undefined],
    "http://other.example/sub?q": [301, "sub/?q"],
    "http://other.example/sub/": [200, undefined],
  };
  for (const [target, [status, location]] of Object.entries(expected)) {
    const reply = await place.get(target);
    assertEquals([reply.status, reply.headers.location], [status, location], target);
  }
});
