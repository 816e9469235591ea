/** What the command's server finds below its root, and that nothing else can be reached. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import { test } from "../support/harness.ts";
import { ask } from "../support/http_client.ts";
import { addLinks } from "../support/links.ts";
import { missing, serving } from "../support/site.ts";

test("serve sends index.html for a directory, and redirects to its slash", () =>
  serving(async ({ port }, site) => {
    site.add("sub/index.html", "sub");
    site.add("a b%/index.html", "odd");
    fs.mkdirSync(site.path("bare"));
    fs.mkdirSync(site.path("nested/index.html"), { recursive: true });
    const replies: Record<string, [number, string | undefined]> = {
      "/": [200, undefined],
      "/?q": [200, undefined],
      "/sub/": [200, undefined],
      "/sub": [301, "sub/"],
      "/sub?a=/../b&c=%2f": [301, "sub/?a=/../b&c=%2f"],
      "/a%20b%25": [301, "a%20b%25/"],
      "/a%20b%25/": [200, undefined],
      "/bare": [301, "bare/"],
      "/bare/": [200, undefined],
      "/nested/": [200, undefined],
      "/index.html/": [301, "../index.html"],
      "/sub/index.html/x": [404, undefined],
      "http://other.example/sub?q": [301, "sub/?q"],
      "http://other.example": [200, undefined],
    };
    for (const [target, expected] of Object.entries(replies)) {
      const { status, headers } = await ask(port, target);
      assertEquals([status, headers.location], expected, target);
    }
    assertEquals(String((await ask(port, "/sub/")).body), "sub");
    assertEquals((await ask(port, "/sub/")).headers["content-type"], "text/html; charset=utf-8");
  }));

test("serve answers malformed, missing and other than GET requests with one plain line", () =>
  serving(async ({ port }) => {
    const refused: [string, string, number][] = [
      ["GET", "/missing", 404],
      ["HEAD", "/missing", 404],
      ["GET", "/%", 400],
      ["GET", "/%zz", 400],
      ["GET", "/%00", 400],
      ["GET", "/index.html%00.txt", 400],
      ["GET", "/%ff", 400],
      ["GET", "/%c0%ae%c0%ae/secret.txt", 400],
      ["GET", "/%ed%a0%80", 400],
      ["GET", `/${"a".repeat(300)}`, 404],
      ["GET", `/${"a/".repeat(3000)}`, 404],
      ["POST", "/", 405],
      ["PUT", "/index.html", 405],
      ["DELETE", "/index.html", 405],
      ["TRACE", "/", 405],
    ];
    for (const [method, target, status] of refused) {
      const reply = await ask(port, target, {
        method,
        fields: method === "POST" ? "Content-Length: 0\r\n" : "",
      });
      assertEquals(reply.status, status, `${method} ${target}`);
      assertEquals(reply.headers.allow, status === 405 ? "GET, HEAD, OPTIONS" : undefined);
      if (method !== "HEAD") assert(/^\d{3} [A-Z][A-Za-z ]+\n$/.test(String(reply.body)), String(reply.body));
    }
  }));

test("serve never leaves the root, in whatever spelling", () =>
  serving(async (server, site) => {
    site.add("dir/file.txt", "inside");
    const climbs = [
      "..",
      "%2e%2e",
      "%2E.",
      ".%2e",
      "..%2f..",
      "..%5c..",
      "..\\..",
      "%252e%252e",
      "..%00",
      "..;",
    ];
    const targets = climbs.flatMap((climb) => [
      `/${climb}/secret.txt`,
      `/dir/${climb}/${climb}/secret.txt`,
      `/${climb}%2fsecret.txt`,
      `/${climb}%5csecret.txt`,
      `/${climb}\\secret.txt`,
      `/dir/${climb}\\${climb}\\secret.txt`,
      `http://test/${climb}/secret.txt`,
    ]);
    targets.push(
      "//secret.txt",
      "/%2fetc/passwd",
      "//etc/passwd",
      `/${site.base}/secret.txt`,
      `/%2f${site.base.slice(1)}/secret.txt`,
      "/root/../../secret.txt",
      "/dir%2ffile.txt",
      "/dir%5cfile.txt",
      "/file:///etc/passwd",
      "/~root/",
      "/C:/secret.txt",
    );
    for (const target of targets) {
      const { status, body } = await ask(server.port, target);
      assert(status === 404 || status === 400, `${target}: ${status}`);
      assert(!body.includes("SECRET") && !body.includes("inside"), target);
    }
  }));

test("serve never redirects to another host", () =>
  serving(async ({ port }, site) => {
    fs.mkdirSync(site.path("evil.example"));
    const targets = ["//evil.example", "///evil.example", "/\\evil.example", "/%5cevil.example"];
    targets.push("/%2fevil.example", "//evil.example/..", "/./evil.example", "/.//evil.example");
    targets.push("http://test//evil.example", "http://x@evil.example//evil.example");
    for (const target of targets) {
      const { status, headers } = await ask(port, target);
      if (status === 404) assertEquals(headers.location, undefined);
      else assert(/^(\.\.\/)*evil\.example\/$/.test(headers.location), `${target}: ${headers.location}`);
    }
  }));

test("serve follows symlinks inside the root, but not out of it", () =>
  serving(async ({ port }, site) => {
    site.add("dir/file.txt", "inside");
    for (const [name, status] of addLinks(site.root)) {
      const { status: actual, body } = await ask(port, `/${name}`);
      assertEquals(actual, status, name);
      assertEquals(String(body), status === 200 ? "inside" : "404 Not Found\n");
    }
    for (const target of ["/up/secret.txt", "/up/", "/beside/", "/beside/index.html"]) {
      assertEquals((await ask(port, target)).status, 404, target);
    }
    fs.mkdirSync(site.path("linked"));
    fs.symlinkSync("../../secret.txt", site.path("linked/index.html"));
    const linked = String((await ask(port, "/linked/")).body);
    assert(!linked.includes("index.html") && !linked.includes("SECRET"), linked);
    fs.symlinkSync("dir", site.path("link"));
    assertEquals((await ask(port, "/link")).headers.location, "link/");
    assertEquals((await ask(port, "/link/file.txt")).status, 200);
  }));

test("serve accepts a symlink as its root, and notices when it is changed to another directory", async () => {
  await serving(async ({ port }, site) => {
    assertEquals((await ask(port, "/real.txt")).status, 200);
    // A new release: the next request finds it, and the old one is outside.
    fs.mkdirSync(join(site.base, "next"));
    fs.writeFileSync(join(site.base, "next/new.txt"), "new");
    fs.symlinkSync("../target/real.txt", join(site.base, "next/old.txt"));
    fs.rmSync(site.root);
    fs.symlinkSync("next", site.root);
    assertEquals(String((await ask(port, "/new.txt")).body), "new");
    assertEquals((await ask(port, "/real.txt")).status, 404);
    assertEquals((await ask(port, "/old.txt")).status, 404);
  }, {
    prepare(site) {
      fs.renameSync(site.root, join(site.base, "old"));
      fs.mkdirSync(join(site.base, "target"));
      fs.writeFileSync(join(site.base, "target/real.txt"), "x");
      fs.symlinkSync("target", site.root);
    },
  });
});

test("serve shows no dotfiles but .well-known", () =>
  serving(async ({ port }, site) => {
    site.add(".env", "SECRET");
    site.add(".git/config", "SECRET");
    site.add("dir/.hidden/file.txt", "SECRET");
    site.add(".well-known/security.txt", "Contact: x");
    for (const target of ["/.env", "/%2eenv", "/.git/config", "/.git", "/.git/", "/dir/.hidden/file.txt"]) {
      assertEquals((await ask(port, target)).status, 404, target);
    }
    assertEquals((await ask(port, "/.well-known/security.txt")).status, 200);
  }));

test("serve does not wait for a FIFO, nor open a socket", () =>
  serving(async ({ port }, site) => {
    assertEquals(spawnSync("mkfifo", [site.path("pipe")]).status, 0);
    const listener = net.createServer().listen(site.path("socket"));
    await new Promise((resolve) => listener.once("listening", resolve));
    try {
      for (const target of ["/pipe", "/socket"]) {
        for (const method of ["GET", "HEAD"]) assertEquals((await ask(port, target, { method })).status, 404);
      }
    } finally {
      listener.close();
    }
  }), { skip: missing("mkfifo") });
