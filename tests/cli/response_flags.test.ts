/** Flags of the static server that change responses, as options of ./http do. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import { test } from "../support/harness.ts";
import { ask, assertSame } from "../support/http_client.ts";
import { serving } from "../support/site.ts";

test("serve applies the flags that change responses", () =>
  serving(async ({ port }, site) => {
    site.add("style.css", "plain");
    site.add("style.css.gz", gzipSync("plain"));
    site.add(".hidden", "hidden");
    const accept = "Accept-Encoding: gzip\r\n";
    const { headers, body } = await ask(port, "/style.css", { fields: accept });
    assertEquals(String(gunzipSync(body)), "plain");
    assertEquals(headers["content-encoding"], "gzip");
    assertEquals(headers["cache-control"], "public, max-age=60");
    assertEquals(headers["access-control-allow-origin"], "*");
    assertEquals([headers["x-one"], headers["x-two"]], ["1", "a: b"]);
    assertEquals((await ask(port, "/.hidden")).status, 200);
    assertEquals(String((await ask(port, "/some/page")).body), "<h1>index</h1>");
    assertEquals((await ask(port, "/some/missing.js")).status, 404);
    fs.mkdirSync(site.path("bare"));
    assertEquals((await ask(port, "/bare/")).status, 200); // the application's own
  }, {
    args: [
      "--precompressed",
      "--max-age=60",
      "--cors",
      "--dotfiles",
      "--spa",
      "--no-dir-listing",
      "-H",
      "X-One: 1",
      "--header=X-Two: a: b",
    ],
  }));

test("serve lists directories, unless it is turned off", async () => {
  await serving(async ({ port }, site) => {
    site.add("dir/<b>.txt", "x");
    assertStringIncludes(String((await ask(port, "/dir/")).body), "&lt;b&gt;.txt</a>");
  });
  await serving(async ({ port }, site) => {
    site.add("dir/<b>.txt", "x");
    assertEquals((await ask(port, "/dir/")).status, 404);
  }, { args: ["--no-dir-listing"] });
});

test("serve keeps to the rate limit", () =>
  serving(async ({ port }, site) => {
    const began = performance.now();
    assertSame((await ask(port, "/65537.bin")).body, site.files.get("/65537.bin")!, "the body");
    // Never faster than the limit allows, with the first piece of a tenth of a second at once.
    assert(performance.now() - began > (65537 / (128 * 1024) - 0.1) * 1000 - 50);
  }, { args: ["--rate-limit", "128k"] }));

test("serve --clean-urls serves about.html for /about", async () => {
  const prepare = (site: { add(name: string, content: string): void }) => site.add("about.html", "<p>about");
  await serving(async ({ port }) => {
    assertEquals(String((await ask(port, "/about")).body), "<p>about");
  }, { args: ["--clean-urls"], prepare });
  await serving(async ({ port }) => {
    assertEquals((await ask(port, "/about")).status, 404);
  }, { prepare });
});

test("serve follows a symlink out of the root only with --follow-symlinks", async () => {
  const prepare = ({ base, root }: { base: string; root: string }) =>
    fs.symlinkSync(join(base, "secret.txt"), join(root, "link.txt"));
  await serving(async ({ port }) => {
    assertEquals(String((await ask(port, "/link.txt")).body), "SECRET");
  }, { args: ["--follow-symlinks"], prepare });
  await serving(async ({ port }) => {
    assertEquals((await ask(port, "/link.txt")).status, 404);
  }, { prepare });
});
