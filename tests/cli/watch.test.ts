/** `--watch`: pages that load themselves anew. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import { Browser } from "../support/browser.ts";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";
import { missing, Server, serving, type Site, until } from "../support/site.ts";

const PAGE = "<!doctype html><title>one</title><body><p>one</p></BODY></html>";
const BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
const TAG = /<script src="\/\.sendfile-reload\.js" data-since="(\d+)"><\/script>\n/;

const prepare = (site: Site) => {
  site.add("page.html", PAGE);
  site.add("plain.html", "no end of a body");
  site.add("style.css", "p { color: red }</body>");
  site.add("dir/x.txt", "x");
};

/** What the script asks; `since`: by the clock of the server. */
function events(port: number, since: number, last?: number) {
  const fields = `Accept: text/event-stream\r\n${last === undefined ? "" : `Last-Event-ID: ${last}\r\n`}`;
  return ask(port, `/.sendfile-reload?since=${since}`, { fields });
}

test("serve --watch puts one script into pages, and into nothing else", () =>
  serving(async ({ port }, site) => {
    const page = await ask(port, "/page.html", { fields: BROWSER });
    const text = String(page.body);
    assert(TAG.test(text), text);
    assertEquals(text.replace(TAG, ""), PAGE);
    assertStringIncludes(text, "</script>\n</BODY></html>");
    assertEquals(page.headers["cache-control"], "no-store");
    for (const name of ["etag", "last-modified", "accept-ranges"]) {
      assertEquals(page.headers[name], undefined);
    }
    const plain = String((await ask(port, "/plain.html", { fields: BROWSER })).body);
    assertEquals(plain.replace(TAG, ""), "no end of a body");
    assert(TAG.test(plain));
    for (const target of ["/dir/", "/missing", "/"]) {
      const { body } = await ask(port, target, { fields: BROWSER });
      assertEquals(String(body).match(new RegExp(TAG, "g"))?.length, 1, target);
    }
    for (const name of ["/style.css", "/4096.bin"]) {
      const { headers, body } = await ask(port, name, { fields: BROWSER });
      assertSame(body, site.files.get(name)!, name);
      assertEquals(headers["cache-control"], "no-cache");
      assert(headers.etag);
    }
    const head = await ask(port, "/page.html", { fields: BROWSER, method: "HEAD" });
    assertEquals(head.headers["content-length"], page.headers["content-length"]);
    const script = await ask(port, "/.sendfile-reload.js");
    assertEquals(script.headers["content-type"], "text/javascript; charset=utf-8");
  }, { args: ["--watch"], prepare }));

test("serve --watch --auth logs a refused login at the paths of its own, too", () =>
  serving(async (server) => {
    for (const target of ["/.sendfile-reload.js", "/.sendfile-reload?x", "/page.html"]) {
      assertEquals((await ask(server.port, target)).status, 401);
    }
    await server.line(/ GET \/page\.html 401 /);
    await server.line(/ GET \/\.sendfile-reload\.js 401 /);
    await server.line(/ GET \/\.sendfile-reload\?x 401 /);
  }, { args: ["--watch", "--auth", "user:password"], prepare }));

test("serve --watch sends a page whole, whatever part or state of it a browser asks for", () =>
  serving(async ({ port }, site) => {
    const modified = fs.statSync(site.path("page.html")).mtime.toUTCString();
    for (const field of ["Range: bytes=0-3", `If-Modified-Since: ${modified}`, "If-None-Match: *"]) {
      const { status, body } = await ask(port, "/page.html", { fields: `${BROWSER}${field}\r\n` });
      assertEquals(status, 200, field);
      assertEquals(String(body).replace(TAG, ""), PAGE);
    }
    const part = await ask(port, "/page.html", { fields: "Range: bytes=0-3\r\n" });
    assertEquals([part.status, String(part.body)], [206, PAGE.slice(0, 4)]);
  }, { args: ["--watch"], prepare }));

test("serve --watch notifies the script when a file changes, and at once if one has changed already", () =>
  serving(async ({ port }, site) => {
    const since = Number(TAG.exec(String((await ask(port, "/page.html", { fields: BROWSER })).body))![1]);
    const waiting = events(port, since);
    const dotfile = events(port, since, Date.now());
    fs.writeFileSync(site.path(".hidden"), "not to be seen");
    fs.mkdirSync(site.path("new"));
    site.add("new/file.txt", "new");
    const { status, headers, body } = await waiting;
    assertEquals([status, headers["content-type"]], [200, "text/event-stream; charset=utf-8"]);
    assert(/^retry: 100\nid: \d+\nevent: change\ndata:\n\n$/.test(String(body)), String(body));
    await dotfile; // it waits for the same change
    assertStringIncludes(String((await events(port, since)).body), "event: change");
    assertStringIncludes(String((await events(port, 1)).body), "event: change");
  }, { args: ["--watch", "--log", "none"], prepare }));

test("serve --watch ends with the pages that wait", () =>
  serving(async (server) => {
    const client = await Client.to(server.port);
    client.send(request("/.sendfile-reload"));
    await ask(server.port, "/1.bin");
    process.kill(server.child.pid!, "SIGTERM");
    const { headers, body } = await client.reply();
    assertStringIncludes(String(body), "id: ");
    assert(!body.includes("event: change"));
    assertEquals(headers.connection, "close");
    assertEquals(await server.exit(), 0);
    client.close();
  }, { args: ["--watch"], prepare }));

test("serve --watch works with workers", () =>
  serving(async ({ port }, site) => {
    const since = Date.now();
    const waiting = Array.from({ length: 6 }, () => events(port, since));
    await ask(port, "/1.bin");
    site.add("page.html", "changed");
    for (const { body } of await Promise.all(waiting)) assertStringIncludes(String(body), "event: change");
  }, { args: ["--watch", "--workers", "2"], prepare }));

test(
  "chromium loads a page anew when a file changes, under a policy of the site's own",
  () =>
    serving(async ({ port }, site) => {
      const browser = await Browser.start();
      const text = () => browser.value<string>("document.body.innerText.trim()");
      try {
        for (
          const [target, name] of [["/page.html", "page.html"], ["/dir/", "dir/added.txt"], [
            "/none",
            "404.html",
          ]]
        ) {
          await browser.open(`http://127.0.0.1:${port}${target}`);
          const before = await text();
          const content = `<p>two of ${name}</p>`;
          site.add(name, content);
          await browser.loaded();
          await until(async () => {
            const now = await text();
            return now !== before && (now.includes(`two of ${name}`) || now.includes("added.txt"));
          }, `the new text of ${target}`);
        }
      } finally {
        await browser.close();
      }
    }, {
      args: ["--watch"],
      prepare,
    }),
  { skip: missing("chromium") },
);

test("serve refuses --watch beside --max-age", async () => {
  const server = new Server({ args: ["--watch", "--max-age", "1"] });
  try {
    assertEquals(await server.exit(), 2);
    assert(/^error: --watch cannot be used with /.test(server.errors), server.errors);
  } finally {
    await server.stop();
  }
});
