/** What must never come: a malformed URL's file, a file outside of the root, a redirect to another host. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { addLinks } from "../../support/links.ts";
import { missing } from "../../support/site.ts";
import { assertOutside } from "./assert_reply.ts";
import { BROWSER, each } from "./place.ts";

const MALFORMED = ["/%", "/%zz", "/%4", "/10.bin%", "/%00", "/10.bin%00", "/10.bin%00.txt", "/%ff", "/%c3"];
MALFORMED.push("/%c0%ae%c0%ae/secret.txt", "/%c0%af", "/%ed%a0%80", "/%f4%90%80%80", "/dir/%", "/%/dir");

for (const target of MALFORMED) {
  each(`answers ${target.length > 60 ? `${target.slice(0, 20)}…` : target} with 400`, async (place) => {
    const { status, body } = await place.get(target);
    assertEquals(status, 400);
    assert(!body.includes(place.base));
    assertEquals((await place.head(target)).status, 400);
  });
}

const CLIMBS = ["..", "%2e%2e", "%2E.", ".%2e", "..%2f..", "..%5c..", "..\\..", "%252e%252e", "..%00", "..;"];
CLIMBS.push("%2e%2e%2f%2e%2e", "...", "%u002e%u002e", "%ef%bc%8e%ef%bc%8e");

for (const climb of CLIMBS) {
  each(`never leaves the root by ${climb}`, async (place) => {
    place.add("dir/file.txt", "INSIDE");
    place.add("secret.txt", "NOT THE ONE");
    const targets = [
      `/${climb}/secret.txt`,
      `/${climb}/${climb}/${climb}/${climb}/etc/passwd`,
      `/dir/${climb}/${climb}/secret.txt`,
      `/${climb}%2fsecret.txt`,
      `/${climb}%5csecret.txt`,
      `/${climb}\\secret.txt`,
      `/dir/${climb}\\${climb}\\secret.txt`,
      `/dir/${climb}/dir/file.txt`,
      `/${climb}`,
      `/${climb}/`,
      `http://test/${climb}/secret.txt`,
    ];
    for (const target of targets) {
      const reply = await place.get(Buffer.from(target).toString("latin1"));
      assertOutside(place, target, reply);
    }
  });
}

const REFUSED_PATHS = ["/dir/../10.bin", "/dir/%2e%2e/10.bin", "/../10.bin", "/dir/..", "/dir/../"];
const REFUSED_ANYWHERE = [
  "/dir%2ffile.txt",
  "/dir%2Ffile.txt",
  "/dir%5cfile.txt",
  "/%2f10.bin",
  "/%2fetc/passwd",
  "//etc/passwd",
  "/file:///etc/passwd",
];
REFUSED_ANYWHERE.push("/C:/secret.txt", "/~root/", "/10.bin;x", "/10.bin.", "/10.bin%20", "/10.bin::$DATA");

for (const target of REFUSED_PATHS) {
  each(`answers ${target} with 404`, async (place) => {
    place.add("dir/file.txt", "INSIDE");
    assertEquals((await place.get(target)).status, 404);
  }, { skip: (kind) => kind === "Bun.serve" && "it has resolved .. before the handler sees it" });
}

for (const target of REFUSED_ANYWHERE) {
  each(`answers ${target} with 404`, async (place) => {
    place.add("dir/file.txt", "INSIDE");
    const { status, headers } = await place.get(target);
    assertEquals([status, headers.location], [404, undefined]);
  });
}

each("does not take the root's own path from a URL", async (place) => {
  const targets = [
    `/${place.base}/secret.txt`,
    `/%2f${place.base.slice(1)}/secret.txt`,
    `${place.base}/secret.txt`,
  ];
  targets.push(
    `/root/../../secret.txt`,
    `/root/10.bin`,
    place.path("10.bin"),
  );
  for (const target of targets) assertOutside(place, target, await place.get(target));
});

each("never redirects to another host", async (place) => {
  fs.mkdirSync(place.path("evil.example"));
  const targets = ["//evil.example", "///evil.example", "/\\evil.example", "/%5cevil.example"];
  targets.push("/%2fevil.example", "//evil.example/..", "/./evil.example", "/.//evil.example");
  targets.push("http://test//evil.example", "http://x@evil.example//evil.example", "/%09/evil.example");
  targets.push("//evil.example/%2e%2e", "/%0d%0aX:y/..//evil.example", "//evil.example?/..");
  for (const target of targets) {
    const { status, headers: { location } } = await place.get(target);
    if (location === undefined) {
      assert(status === 404 || status === 400, `${target}: ${status}`);
      continue;
    }
    const asked = target.startsWith("/") ? `http://test${target}` : target;
    const { host, pathname } = new URL(location, asked);
    assert(status === 301 && !/^[/\\]/.test(location), `${target}: ${location}`);
    assertEquals(host, new URL(asked).host, `${target}: ${location}`);
    // Bun has cleaned the URL before the handler sees it.
    if (place.kind.name !== "Bun.serve") assertEquals(pathname, "/evil.example/", `${target}: ${location}`);
  }
});

each("follows symlinks inside the root, and none out of it", async (place) => {
  place.add("dir/file.txt", "INSIDE");
  for (const [name, status] of addLinks(place.root)) {
    const reply = await place.get(`/${name}`);
    assertEquals(reply.status, status, name);
    if (status === 200) assertEquals(String(reply.body), "INSIDE");
  }
  for (const target of ["/up/secret.txt", "/up/", "/beside/", "/beside/index.html", "/up/root/10.bin"]) {
    const reply = await place.get(target);
    assert(!reply.body.includes("SECRET"), target);
    if (target !== "/up/root/10.bin") assertEquals(reply.status, 404, target);
  }
  fs.symlinkSync("dir", place.path("link"));
  assertEquals((await place.get("/link")).headers.location, "link/");
  assertEquals(String((await place.get("/link/file.txt")).body), "INSIDE");
  fs.mkdirSync(place.path("linked"));
  fs.symlinkSync("../../secret.txt", place.path("linked/index.html"));
  assertEquals((await place.get("/linked/")).status, 404);
});

for (const options of [{ spa: true }, { spa: "out.html" }, { cleanUrls: true }, { index: ["out.html"] }]) {
  each(`follows no symlink out of the root with ${JSON.stringify(options)}`, async (place) => {
    for (const name of ["index.html", "out.html", "page.html"]) {
      fs.symlinkSync("../secret.txt", place.path(name));
    }
    for (const target of ["/", "/page", "/missing", "/out", "/out.html"]) {
      const { status, body } = await place.get(target, BROWSER);
      assert(status === 404 && !body.includes("SECRET"), `${target}: ${status}`);
    }
  }, { options });
}

each("does not wait for a FIFO", async (place) => {
  assertEquals(spawnSync("mkfifo", [place.path("pipe"), place.path("page.html")]).status, 0);
  for (const target of ["/pipe", "/page.html", "/page"]) {
    assertEquals((await place.get(target)).status, 404, target);
    assertEquals((await place.head(target)).status, 404, target);
  }
}, { options: { cleanUrls: true }, skip: () => missing("mkfifo") });
