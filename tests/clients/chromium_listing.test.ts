/** A browser on a directory's listing. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import { test } from "../support/harness.ts";
import { ask, assertSame } from "../support/http_client.ts";
import { missing, serving } from "../support/site.ts";
import { chromium, unescaped } from "./chromium_runs.ts";
import { decodePng } from "./png.ts";
import { assertMatches, urlOf } from "./programs.ts";
import { addTree, ODD, treeNames } from "./tree.ts";

/** A link of a listing. */
interface Row {
  href: string;
  text: string;
  /** The text of the whole row. */
  row: string;
}

/** The links in the body of the table of a serialized DOM. */
function rows(dom: string): Row[] {
  const text = (html: string) => unescaped(html.replace(/<[^>]*>/g, " ")).replace(/\s+/g, " ").trim();
  return [...dom.replace(/<thead>.*?<\/thead>/s, "").matchAll(/<tr\b.*?<\/tr>/gs)].flatMap(([row]) => {
    const [, href, content] = /<a\b[^>]*?\shref="([^"]*)"(?:"[^"]*"|[^">])*>(.*?)<\/a>/s.exec(row) ?? [];
    return href === undefined ? [] : [{ href: unescaped(href), text: text(content), row: text(row) }];
  });
}

test(
  "chromium shows a listing: directories first, in natural order, with sizes and dates",
  () =>
    serving(async (server, site) => {
      addTree(site);
      const [parent, ...entries] = rows(await chromium(site, "--dump-dom", urlOf(server, "/tree/")));
      assertEquals(new URL(parent.href, urlOf(server, "/tree/")).pathname, "/");
      const names = entries.map(({ text }) => text.replace(/\/$/, ""));
      assertEquals(names.toSorted(), treeNames(site).toSorted());
      const isDirectory = (name: string) => fs.statSync(site.path(`tree/${name}`)).isDirectory();
      assertEquals(names.slice(0, 4).map(isDirectory), [true, true, true, true]);
      for (const [first, second] of [["dir2", "dir10"], ["file2.txt", "file10.txt"]]) {
        assert(names.indexOf(first) < names.indexOf(second), `${first} before ${second}`);
      }
      for (const { row } of entries) assertMatches(row, /2021-03-04/);
      const row = (name: string) => entries[names.indexOf(name)].row;
      assertMatches(row("kib.bin"), /1\.5 ?(K|KB|kB|KiB)\b|1,?536/);
      assertMatches(row("large.bin"), /3(\.0)? ?(M|MB|MiB)\b|3,?145,?728/);
      assertMatches(row("file2.txt"), /\b100\b/);
    }),
  { skip: missing("chromium") },
);

test(
  "chromium shows odd names in a listing as they are, and their links lead to the files",
  () =>
    serving(async (server, site) => {
      addTree(site);
      const base = urlOf(server, "/tree/");
      const dom = await chromium(site, "--dump-dom", base);
      assertEquals(/<b>|onmouseover="/.exec(dom.replace(/="[^"]*"/g, "")), null, "markup from a name");
      const entries = rows(dom);
      for (const name of ODD) {
        const entry = entries.find(({ text }) => text === name.replace(/\s+/g, " "));
        assert(entry, `${name} among\n${entries.map(({ text }) => text).join("\n")}`);
        const { origin, pathname, search } = new URL(entry.href, base);
        assertEquals(origin, new URL(base).origin, entry.href);
        const { status, body } = await ask(server.port, pathname + search);
        assertEquals(status, 200, entry.href);
        assertSame(body, site.files.get(`/tree/${name}`)!, name);
      }
    }),
  { skip: missing("chromium") },
);

test("chromium paints a listing", () =>
  serving(async (server, site) => {
    addTree(site);
    const path = join(site.base, "listing.png");
    await chromium(site, `--screenshot=${path}`, "--window-size=1000,800", urlOf(server, "/tree/"));
    const { width, height, colors } = decodePng(fs.readFileSync(path));
    assertEquals([width, height], [1000, 800]);
    assert(colors.size >= 16, `only ${colors.size} colors`); // the edges of letters are smooth
    const [most] = [...colors.values()].toSorted((a, b) => b - a);
    assert(most < 0.995 * width * height, "hardly anything but background");
  }), { skip: missing("chromium") });
