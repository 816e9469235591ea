/** Flags of the static server that are options of ./http, too. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import { test } from "../support/harness.ts";
import { ask } from "../support/http_client.ts";
import { serving } from "../support/site.ts";

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
