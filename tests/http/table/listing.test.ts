/** The listing of a directory, where it is asked for, and nowhere else. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { assertOutside } from "./assert_reply.ts";
import { each } from "./place.ts";

each("lists a directory, each entry as a link that leads there", async (place) => {
  const names = [
    "a b.txt",
    "100%.txt",
    "<img src=x>.txt",
    '"&quot;.txt',
    "#?.txt",
    "ä.txt",
    "javascript:x.txt",
  ];
  for (const name of names) place.add(`dir/${name}`, `this is ${name}`);
  place.add("dir/sub/x.txt", "x");
  place.add("dir/.hidden", "x");
  const { status, headers, body } = await place.get("/dir/");
  assertEquals([status, headers["content-type"].toLowerCase()], [200, "text/html; charset=utf-8"]);
  const html = String(body);
  assert(!html.includes("<img") && !html.includes(".hidden"), html);
  const links = [...html.matchAll(/href="([^"]*)"/g)].map(([, link]) => link.replaceAll("&amp;", "&"));
  const base = "http://test/dir/";
  const found = new Map<string, string>();
  for (const link of links) {
    const { origin, pathname } = new URL(link, base);
    assertEquals(origin, "http://test", link);
    const name = decodeURIComponent(pathname.slice("/dir/".length));
    if (names.includes(name)) found.set(name, String((await place.get(pathname)).body));
  }
  assertEquals(Object.fromEntries(found), Object.fromEntries(names.map((name) => [name, `this is ${name}`])));
  assert(links.some((link) => new URL(link, base).pathname === "/dir/sub/"), String(links));
}, { options: { showDirListing: true } });

each("lists nothing unless asked to", async (place) => {
  place.add("dir/x.txt", "x");
  for (const target of ["/", "/dir/"]) assertEquals((await place.get(target)).status, 404, target);
});

each("lists no directory outside of the root", async (place) => {
  fs.symlinkSync("..", place.path("up"));
  for (const target of ["/up/", "/%2e%2e/", "/..%2f", "/up"]) {
    const reply = await place.get(target);
    assert(!reply.body.includes("secret"), target);
    assertOutside(place, target, reply);
  }
}, { options: { showDirListing: true } });
