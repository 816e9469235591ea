/** What was reported of other static servers, and must not happen here. Each test names its source. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { join } from "@std/path";
import { bytes } from "../support/data.ts";
import { each, type Served } from "../support/each_server.ts";
import { Client, request } from "../support/http_client.ts";

const BROTLI_FIRST = { "Accept-Encoding": "gzip, deflate, br, zstd" };

each(
  "keeps names apart that are one when decoded twice (fastify/fastify-static#240, #451)",
  async ({ add, get }) => {
    const names = ["a .md", "a%20.md", "bunny %% copy.mp4", "50%.txt", "%25.txt", "%2e%2e"];
    for (const name of names) add(name, `this is ${name}`);
    for (const name of names) {
      const { status, body } = await get(`/${encodeURIComponent(name)}`);
      assertEquals([status, String(body)], [200, `this is ${name}`]);
    }
  },
);

each(
  "finds names with signs of URLs in them (expressjs/express#6523, cloudhead/node-static#170)",
  async ({ add, get }) => {
    for (
      const name of ["normal_cpd_*#*009.mp3", "string/#/contains.js", "what?.txt", "a;b=c&d.txt", "+.txt"]
    ) {
      add(name, name);
      const target = name.split("/").map(encodeURIComponent).join("/");
      assertEquals(String((await get(`/${target}`)).body), name);
    }
  },
);

each(
  "redirects to a directory whose index is compressed, and sends that index there (fastify/fastify-static#470, #270, " +
    "#445, static-web-server/static-web-server#178)",
  async ({ add, get }) => {
    add("index.html.gz", "root, compressed");
    add("index.html", "root");
    add("dir/index.html", "index");
    add("dir/index.html.gz", "index, compressed");
    const bare = await get("/dir", BROTLI_FIRST);
    assertEquals([bare.status, bare.headers.location], [301, "dir/"]);
    const { status, headers, body } = await get("/dir/", BROTLI_FIRST);
    assertEquals([status, String(body), headers["content-encoding"]], [200, "index, compressed", "gzip"]);
    assertEquals(headers["content-type"], "text/html; charset=utf-8"); // honojs/node-server#226
    assertEquals(headers.vary, "Accept-Encoding");
  },
  { options: { precompressed: true } },
);

each(
  "takes the next coding if the first sibling is missing (fastify/fastify-static#595)",
  async ({ add, get }) => {
    add("a.js", "plain");
    add("a.js.gz", "compressed");
    for (const accept of ["deflate, gzip", "deflate;q=1, gzip;q=0.9", "br, deflate, gzip", "gzip"]) {
      const { headers, body } = await get("/a.js", { "Accept-Encoding": accept });
      assertEquals([headers["content-encoding"], String(body)], ["gzip", "compressed"], accept);
    }
    for (const accept of ["deflate", "gzip;q=0, deflate", "identity"]) {
      const { headers, body } = await get("/a.js", { "Accept-Encoding": accept });
      assertEquals([headers["content-encoding"], String(body)], [undefined, "plain"], accept);
    }
  },
  { options: { precompressed: true } },
);

each(
  "answers 404 if only the compressed file exists (static-web-server/static-web-server#617)",
  async ({ add, get }) => {
    add("gone.js.br", "compressed");
    add("page.html.br", "compressed");
    for (const target of ["/gone.js", "/page", "/page.html"]) {
      assertEquals((await get(target, BROTLI_FIRST)).status, 404, target);
    }
  },
  { options: { precompressed: true, cleanUrls: true } },
);

each("ends the answer for a directory without index (honojs/hono#3628)", async ({ root, get }) => {
  fs.mkdirSync(join(root, ".well-known"));
  const bare = await get("/.well-known");
  assertEquals([bare.status, bare.headers.location], [301, ".well-known/"]);
  const { status, body } = await get("/.well-known/");
  assertEquals([status, String(body)], [404, "404 Not Found\n"]);
});

each("answers HEAD as GET, for each kind of answer (elysiajs/elysia-static#46)", async ({ add, get }) => {
  add("a.txt", "content");
  add("dir/index.html", "index");
  for (const target of ["/a.txt", "/dir/", "/dir", "/missing", "/%"]) {
    const whole = await get(target);
    const head = await get(target, {}, "HEAD");
    const { date: _, ...fields } = head.headers;
    const { date: __, ...expected } = whole.headers;
    assertEquals([head.status, fields], [whole.status, expected], target);
    assertEquals(head.body.length, 0);
  }
});

each(
  "lets a replaced file of the epoch be seen (caddyserver/caddy#5548, #7730, NixOS/nixpkgs#25485)",
  async (served) => {
    const path = served.add("a.html", "old page", 1);
    const { headers: { etag } } = await served.get("/a.html");
    fs.rmSync(path);
    served.add("a.html", "new page", 1);
    const stored = { "If-None-Match": etag, "If-Modified-Since": "Thu, 01 Jan 1970 00:00:01 GMT" };
    const { status, body } = await served.get("/a.html", stored);
    assertEquals([status, String(body)], [200, "new page"]);
  },
);

each(
  "sends the ranges that players of video ask for (outline/outline#13695, vercel/serve#447)",
  async (served) => {
    const content = Buffer.from(bytes(99_698));
    fs.writeFileSync(served.add("a.mp4", ""), content);
    const { headers: { etag } } = await served.get("/a.mp4");
    const asked: [string, number, number][] = [
      ["bytes=0-1", 0, 1],
      ["bytes=0-0", 0, 0],
      ["bytes=0-", 0, 99_697],
      ["bytes=-100", 99_598, 99_697],
      ["bytes=0-999999", 0, 99_697],
      ["bytes=90000-", 90_000, 99_697],
    ];
    for (const [range, first, last] of asked) {
      for (const fields of [{}, { "If-Range": etag }] as Record<string, string>[]) {
        const { status, headers, body } = await served.get("/a.mp4", { ...fields, Range: range });
        assertEquals([status, headers["content-range"]], [206, `bytes ${first}-${last}/99698`], range);
        assert(body.equals(content.subarray(first, last + 1)), range);
      }
    }
    assertEquals((await served.get("/a.mp4", { Range: "bytes=99698-" })).status, 416);
  },
);

each(
  "stays quiet when a player leaves in the middle (koajs/static#75, kataras/iris#800)",
  async (served: Served) => {
    fs.truncateSync(served.add("a.mp4", ""), 30_000_000);
    for (let i = 0; i < 3; i++) {
      const client = await Client.to(served.port);
      client.send(request("/a.mp4", { fields: "Range: bytes=0-\r\n" }));
      await client.begun();
      client.close();
    }
    assertEquals((await served.get("/a.mp4", { Range: "bytes=29999999-" })).status, 206);
  },
);

/** What lets caches keep a response, in the caller's fields. */
const KEEPING = [
  "Cache-Control: public, max-age=31536000, immutable",
  "CDN-Cache-Control: max-age=60",
  "expires: Thu, 31 Dec 2099 00:00:00 GMT",
];
const KEPT_NAMES = ["cache-control", "cdn-cache-control", "expires"];

each(
  "does not let caches store a 404 (sveltejs/kit#9393, #16615, golang/go#66343)",
  async ({ add, get }) => {
    add("a.js", "content");
    add("dir/index.html", "index");
    const kept = async (target: string, fields = {}, method = "GET") => {
      const { status, headers } = await get(target, fields, method);
      return [status, ...KEPT_NAMES.filter((name) => name in headers)];
    };
    assertEquals(await kept("/a.js"), [200, ...KEPT_NAMES]);
    assertEquals(await kept("/dir"), [301, ...KEPT_NAMES]);
    assertEquals(await kept("/missing.js"), [404]);
    assertEquals(await kept("/missing.js", {}, "HEAD"), [404]);
    assertEquals(await kept("/%"), [400]);
    assertEquals(await kept("/a.js", {}, "PUT"), [405]);
    assertEquals(await kept("/a.js", { "If-Match": '"x"' }), [412]);
    assertEquals(await kept("/a.js", { Range: "bytes=99-" }), [416]);
  },
  { options: { headers: KEEPING } },
);

for (
  const value of [
    "no-store",
    "no-cache",
    "private",
    "max-age=0, must-revalidate",
    "s-maxage=00",
    'x="public"',
  ]
) {
  each(`lets errors say ${value}`, async ({ get }) => {
    assertEquals((await get("/missing")).headers["cache-control"], value);
  }, { options: { headers: [`Cache-Control: ${value}`] } });
}

each(
  "compares only with valid tags of a list, and stops at the first that is invalid (golang/go, TestScanETag)",
  async ({ add, get }) => {
    add("a.txt", "content");
    const is = async (list: string) => (await get("/a.txt", { "If-None-Match": list })).status;
    for (const list of ['"A"', 'W/"A"', '"B", "A"', '"B",W/"A" ,', ' , "A"', '"a,b", "A"', "*"]) {
      assertEquals(await is(list), 304, list);
    }
    for (const list of ['w/"A"', "A", 'W/ "A"', '"B" "A"', 'B, "A"', '"A', '"A"B', 'W/"A', '"a"A"', ","]) {
      assertEquals(await is(list), 200, list);
    }
    for (const list of ['w/"A"', 'x"A"', '"B" "A"']) {
      assertEquals((await get("/a.txt", { "If-Match": list })).status, 412, list);
    }
  },
  { options: { headers: ['ETag: "A"'] } },
);
