/** Errors as pages: the site's 404.html, and ours. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { test } from "../support/harness.ts";
import { ask, Client, request } from "../support/http_client.ts";
import { MIB, serving, type Site } from "../support/site.ts";

const PAGE = "<!doctype html><title>nothing here</title>" + "x".repeat(70_000);
const BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
const prepare = (site: Site) => site.add("404.html", PAGE);

test("serve answers a missing path with the site's 404.html and status 404", () =>
  serving(async ({ port }) => {
    for (const fields of ["", BROWSER, "Accept: */*\r\n"]) {
      for (
        const target of ["/missing", "/missing/", "/a/b/missing.html?q", "/.hidden", "/dir/..%2fsecret.txt"]
      ) {
        const { status, headers, body } = await ask(port, target, { fields });
        assertEquals(status, 404, target);
        assertEquals(String(body), PAGE, target);
        assertEquals(headers["content-type"], "text/html; charset=utf-8");
        assertEquals(headers["x-mine"], "yes");
        assertStringIncludes(headers.vary, "Accept");
        for (const name of ["etag", "last-modified", "cache-control", "accept-ranges"]) {
          assertEquals(headers[name], undefined, name);
        }
      }
    }
    const head = await ask(port, "/missing", { method: "HEAD" });
    assertEquals([head.status, head.headers["content-length"]], [404, String(PAGE.length)]);
  }, { prepare, args: ["--max-age", "60", "-H", "X-Mine: yes", "--precompressed"] }));

test("serve sends the 404.html whole, whatever part or state of a file is asked for", () =>
  serving(async ({ port }) => {
    for (
      const field of [
        "Range: bytes=0-9",
        "If-None-Match: *",
        'If-Match: "x"',
        "If-Modified-Since: " + new Date(0).toUTCString(),
      ]
    ) {
      const { status, body } = await ask(port, "/missing", { fields: `${field}\r\n` });
      assertEquals([status, String(body)], [404, PAGE], field);
    }
    const itself = await ask(port, "/404.html");
    assertEquals([itself.status, String(itself.body)], [200, PAGE]);
    assert(itself.headers.etag);
  }, { prepare }));

test("serve sends no error page to a client that does not accept HTML", () =>
  serving(async ({ port }) => {
    for (const accept of ["image/avif,image/webp", "application/json", "text/html;q=0, */*"]) {
      const { status, headers, body } = await ask(port, "/missing.png", { fields: `Accept: ${accept}\r\n` });
      assertEquals([status, String(body)], [404, "404 Not Found\n"], accept);
      assertStringIncludes(headers.vary, "Accept");
    }
  }, { prepare }));

test("serve keeps a connection through 404 pages of any size", () =>
  serving(async ({ port }, site) => {
    site.add("404.html", Buffer.alloc(3 * MIB, "page"));
    const client = await Client.to(port);
    try {
      for (let i = 0; i < 3; i++) {
        client.send(request("/missing"), request("/1.bin"));
        const page = await client.reply();
        assertEquals([page.status, page.body.length], [404, 3 * MIB]);
        assert(page.body.equals(site.files.get("/404.html")!));
        assertEquals((await client.reply()).status, 200);
      }
    } finally {
      client.close();
    }
  }, { prepare }));

test("serve --spa prefers the application for a page, and 404.html for an asset", () =>
  serving(async ({ port }) => {
    assertEquals((await ask(port, "/some/page")).status, 200);
    const { status, body } = await ask(port, "/missing.js");
    assertEquals([status, String(body)], [404, PAGE]);
  }, { prepare, args: ["--spa"] }));

test("serve takes no 404.html that leads out of the root, or is a directory", () =>
  serving(async ({ port }, site) => {
    fs.symlinkSync(join(site.base, "secret.txt"), site.path("404.html"));
    assertEquals(String((await ask(port, "/missing")).body), "404 Not Found\n");
    fs.unlinkSync(site.path("404.html"));
    fs.mkdirSync(site.path("404.html"));
    assertEquals(String((await ask(port, "/missing")).body), "404 Not Found\n");
  }));

test("serve shows an error as a page with a link to the start if Accept names HTML", () =>
  serving(async ({ port }) => {
    for (
      const [target, home] of [["/missing", "./"], ["/a/b/missing?x=/y/", "../../"], ["/a/", "../"]]
    ) {
      const { status, headers, body } = await ask(port, target, { fields: BROWSER });
      assertEquals([status, headers["content-type"]], [404, "text/html; charset=utf-8"]);
      assertStringIncludes(String(body), "<h1>404 Not Found</h1>");
      assertStringIncludes(String(body), `<a href="${home}">`);
      assertEquals(new URL(home, `http://x${target}`).pathname, "/");
      assertStringIncludes(headers["content-security-policy"], "default-src 'none'");
      const head = await ask(port, target, { fields: BROWSER, method: "HEAD" });
      assertEquals(head.headers["content-length"], String(body.length));
    }
    const denied = await ask(port, "/1.bin", { fields: BROWSER, method: "DELETE" });
    assertEquals([denied.status, denied.headers.allow], [405, "GET, HEAD, OPTIONS"]);
    assertStringIncludes(String(denied.body), "<h1>405 Method Not Allowed</h1>");
    const range = await ask(port, "/1.bin", { fields: `${BROWSER}Range: bytes=5-\r\n` });
    assertEquals([range.status, range.headers["content-range"]], [416, "bytes */1"]);
    for (const fields of ["", "Accept: */*\r\n"]) {
      assertEquals(String((await ask(port, "/missing", { fields })).body), "404 Not Found\n");
    }
  }));
