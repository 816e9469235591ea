/** wget mirrors a directory through its listings. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { test } from "../support/harness.ts";
import { missing, serving } from "../support/site.ts";
import { addOld, assertGot, output, urlOf } from "./programs.ts";
import { addTree } from "./tree.ts";

test(
  "wget -r mirrors a tree through its listings, and nothing above it",
  () =>
    serving(async (server, site) => {
      addTree(site);
      addOld(site, "tree/dir2/deep/er/x.bin", randomBytes(65537));
      const mirror = join(site.base, "mirror");
      const args = ["--no-config", "-nv", "-r", "-np", "-nH", "--restrict-file-names=nocontrol"];
      args.push("-P", mirror);
      await output(site.base, "wget", [...args, urlOf(server, "/tree/")]);
      const listings = ["", "dir2/", "dir2/deep/", "dir2/deep/er/", "dir10/", "a & b/", "empty/"];
      const expected = listings.map((name) => `tree/${name}index.html`);
      for (const target of site.files.keys()) {
        if (!target.startsWith("/tree/")) continue;
        const name = target.slice(1).replace("%41", "A"); // wget decodes twice for its file
        assertGot(join(mirror, name), site, target);
        expected.push(name);
      }
      const found = fs.readdirSync(mirror, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => join(parentPath, name).slice(mirror.length + 1));
      assertEquals(found.filter((name) => !/index\.html\?/.test(name)).toSorted(), expected.toSorted());
    }),
  { skip: missing("wget") },
);
