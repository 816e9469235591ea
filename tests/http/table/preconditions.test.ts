/** If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since and If-Range on every kind of server. */
import { assertEquals } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import { ask, assertSame, Client, type Reply, request } from "../../support/http_client.ts";
import {
  assertNotModified,
  assertPartial,
  assertUnsatisfiable,
  assertWhole,
  essential,
} from "./assert_reply.ts";
import { CONTENT, each, LAST_MODIFIED, type Place, SECOND_AFTER, SECOND_BEFORE } from "./place.ts";

/** The response to a request with these header lines, in which TAG stands for the file's own tag. */
async function conditional(place: Place, text: string, method = "GET"): Promise<Reply> {
  const tag = await place.tag("/100000.bin");
  const fields = text.split("\n").map((line) => `${line.replaceAll("TAG", tag)}\r\n`).join("");
  const client = await Client.to(place.port);
  try {
    client.send(request("/100000.bin", { method, fields }));
    const reply = place.wellFormed(await client.reply({ bodiless: method === "HEAD" }));
    client.send(request("/10.bin", { fields: "Connection: close\r\n" }));
    assertSame((await client.reply()).body, CONTENT.get(10)!, "behind it");
    assertEquals((await client.rest()).length, 0);
    return reply;
  } finally {
    client.close();
  }
}

const IF_MATCH: [string, number][] = [
  ["If-Match: TAG", 200],
  ["If-Match: *", 200],
  ['If-Match: "x", TAG', 200],
  ['If-Match: "x",TAG,"y"', 200],
  ["If-Match: , ,TAG ,", 200],
  ['If-Match: "a,b", TAG', 200],
  ['If-Match: "a, W/", TAG', 200],
  ["If-Match: W/TAG, TAG", 200],
  ['If-Match: ""', 412],
  ['If-Match: "x"', 412],
  ['If-Match: "x", "y"', 412],
  ["If-Match: W/TAG", 412],
  ['If-Match: W/"x", W/TAG', 412],
  ['If-Match: "*"', 412],
];

const IF_NONE_MATCH: [string, number][] = [
  ["If-None-Match: TAG", 304],
  ["If-None-Match: W/TAG", 304],
  ["If-None-Match: *", 304],
  ['If-None-Match: "x", TAG', 304],
  ['If-None-Match: W/"x",W/TAG,"y"', 304],
  ["If-None-Match: , ,TAG ,", 304],
  ['If-None-Match: "a,b", TAG', 304],
  ['If-None-Match: "a, W/", W/TAG', 304],
  ['If-None-Match: "x"', 200],
  ['If-None-Match: ""', 200],
  ['If-None-Match: W/"x", "y,z"', 200],
  ['If-None-Match: "*"', 200],
];

/** The three forms of RFC 9110, 5.6.7. */
const SPELLINGS: [earlier: string, equal: string, later: string][] = [
  [SECOND_BEFORE, LAST_MODIFIED, SECOND_AFTER],
  [
    "Thursday, 04-Mar-21 05:06:06 GMT",
    "Thursday, 04-Mar-21 05:06:07 GMT",
    "Thursday, 04-Mar-21 05:06:08 GMT",
  ],
  ["Thu Mar  4 05:06:06 2021", "Thu Mar  4 05:06:07 2021", "Thu Mar  4 05:06:08 2021"],
];

/** A two-digit year that would lie more than 50 years ahead belongs to the century before (RFC 9110, 5.6.7). */
const LONG_AGO = "Sunday, 06-Nov-94 08:49:37 GMT";

const MODIFIED_SINCE: [string, number][] = [
  ...SPELLINGS.flatMap(([earlier, equal, later]): [string, number][] => [
    [`If-Modified-Since: ${earlier}`, 200],
    [`If-Modified-Since: ${equal}`, 304],
    [`If-Modified-Since: ${later}`, 304],
    [`If-Unmodified-Since: ${earlier}`, 412],
    [`If-Unmodified-Since: ${equal}`, 200],
    [`If-Unmodified-Since: ${later}`, 200],
  ]),
  [`If-Modified-Since: ${LONG_AGO}`, 200],
  [`If-Unmodified-Since: ${LONG_AGO}`, 412],
];

/** Invalid HTTP dates. A lenient parser would read them as later than MODIFIED. */
const NO_AFTER = ["tomorrow", "2022-03-04T05:06:07Z", "1900000000", "Fri, 32 Mar 2023 05:06:07 GMT"];
NO_AFTER.push("Sat, 04 Mar 2023 25:06:07 GMT", "Sat, 04 Mär 2023 05:06:07 GMT", "04 Mar 2023", "0", "-1");
NO_AFTER.push(
  "Sat, 04 Mar 2023 05:06:07",
  "Sat, 04 Mar 2023 05:06:07 +0000",
  "Sat, 04 Mar 2023 05:06:07 GMT!",
);

/** Invalid HTTP dates. A lenient parser would read them as earlier than MODIFIED. */
const NO_BEFORE = ["yesterday", "2020-03-04T05:06:07Z", "0", "Wed, 32 Jan 2020 05:06:07 GMT", "4 Mar 2020"];
NO_BEFORE.push(
  "Wed, 04 Mar 2020 05:06:07 PST",
  "Wed, 04 Mar 2020 5:6:7 GMT",
  "Wed, 04 Mar 2020 05:66:07 GMT",
);

const INVALID_DATES: [string, number][] = [
  ...NO_AFTER.map((date): [string, number] => [`If-Modified-Since: ${date}`, 200]),
  ...NO_BEFORE.map((date): [string, number] => [`If-Unmodified-Since: ${date}`, 200]),
];

/** The order in which preconditions are evaluated (RFC 9110, 13.2.2). */
const ORDER: [string, number][] = [
  ['If-Match: "x"\nIf-None-Match: TAG', 412],
  ["If-Match: TAG\nIf-None-Match: TAG", 304],
  ['If-Match: TAG\nIf-None-Match: "x"', 200],
  [`If-Match: TAG\nIf-Unmodified-Since: ${SECOND_BEFORE}`, 200],
  [`If-Match: "x"\nIf-Unmodified-Since: ${SECOND_AFTER}`, 412],
  [`If-Unmodified-Since: ${SECOND_BEFORE}\nIf-None-Match: TAG`, 412],
  [`If-Unmodified-Since: ${SECOND_AFTER}\nIf-None-Match: TAG`, 304],
  [`If-Unmodified-Since: ${SECOND_BEFORE}\nIf-Modified-Since: ${SECOND_AFTER}`, 412],
  [`If-None-Match: "x"\nIf-Modified-Since: ${SECOND_AFTER}`, 200],
  [`If-None-Match: TAG\nIf-Modified-Since: ${SECOND_BEFORE}`, 304],
  ['If-Match: "x"\nRange: bytes=0-1', 412],
  ['If-Match: "x"\nRange: bytes=100000-', 412],
  ["If-None-Match: TAG\nRange: bytes=0-1", 304],
  ["If-None-Match: TAG\nRange: bytes=100000-", 304],
  [`If-Modified-Since: ${LAST_MODIFIED}\nRange: bytes=0-1`, 304],
  [`If-Unmodified-Since: ${SECOND_BEFORE}\nRange: bytes=0-1`, 412],
  ['If-Match: "x"\nIf-Range: TAG\nRange: bytes=0-1', 412],
  ["If-Match: TAG\nRange: bytes=0-1", 206],
  ['If-None-Match: "x"\nRange: bytes=0-1', 206],
  [`If-Modified-Since: ${SECOND_BEFORE}\nRange: bytes=0-1`, 206],
  [`If-Unmodified-Since: ${LAST_MODIFIED}\nRange: bytes=0-1`, 206],
  ['If-Match: TAG\nIf-Range: "x"\nRange: bytes=0-1', 200],
  ["If-Match: TAG\nRange: bytes=100000-", 416],
];

const IF_RANGE: [string, number][] = [
  ["If-Range: TAG\nRange: bytes=0-1", 206],
  [`If-Range: ${LAST_MODIFIED}\nRange: bytes=0-1`, 206],
  ["If-Range: TAG\nRange: bytes=100000-", 416],
  [`If-Range: ${LAST_MODIFIED}\nRange: bytes=100000-`, 416],
  ["If-Range: W/TAG\nRange: bytes=0-1", 200],
  ['If-Range: "x"\nRange: bytes=0-1', 200],
  ['If-Range: "x"\nRange: bytes=0-1,3-4', 200],
  ['If-Range: "x", TAG\nRange: bytes=0-1', 200],
  ["If-Range: *\nRange: bytes=0-1", 200],
  [`If-Range: ${SECOND_BEFORE}\nRange: bytes=0-1`, 200],
  [`If-Range: ${SECOND_AFTER}\nRange: bytes=0-1`, 200],
  ["If-Range: yesterday\nRange: bytes=0-1", 200],
  ['If-Range: "x"\nRange: bytes=100000-', 200],
  [`If-Range: ${SECOND_BEFORE}\nRange: bytes=100000-`, 200],
  ["If-Range: W/TAG\nRange: bytes=100000-", 200],
  ["If-Range: TAG", 200],
  ['If-Range: "x"', 200],
];

for (
  const [text, status] of [IF_MATCH, IF_NONE_MATCH, MODIFIED_SINCE, INVALID_DATES, ORDER, IF_RANGE].flat()
) {
  each(
    `answers "${text.replaceAll("\n", " + ")}" with ${status}, HEAD as GET without Range`,
    async (place) => {
      const reply = await conditional(place, text);
      const content = CONTENT.get(100_000)!;
      assertEquals(reply.status, status);
      if (status === 200) assertWhole(reply, content);
      if (status === 206) assertPartial(reply, content, [[0, 1]], false);
      if (status === 416) assertUnsatisfiable(reply, content.length);
      const head = await conditional(place, text, "HEAD");
      assertEquals(head.status, status === 206 || status === 416 ? 200 : status);
      if (head.status === 200) assertEquals(head.headers["content-length"], "100000");
      for (const { status, headers } of [reply, head]) {
        if (status === 304) assertNotModified({ ...reply, headers });
        if (status === 304) assertEquals(headers["last-modified"], LAST_MODIFIED);
      }
    },
  );
}

each("reads the dates of asctime as UTC, wherever it stands", async (place) => {
  const { TZ } = process.env;
  process.env.TZ = "America/New_York";
  try {
    const [earlier, equal, later] = SPELLINGS[2];
    for (const [date, status] of [[earlier, 200], [equal, 304], [later, 304]] as const) {
      assertEquals((await place.get("/10.bin", { "If-Modified-Since": date })).status, status, date);
    }
    const head = await place.head("/10.bin");
    assertEquals(head.headers["last-modified"], LAST_MODIFIED);
  } finally {
    if (TZ === undefined) delete process.env.TZ;
    else process.env.TZ = TZ;
  }
});

each("takes the lines of a list for one list", async (place) => {
  for (const [name, status] of [["If-Match", 200], ["If-None-Match", 304]] as const) {
    assertEquals((await conditional(place, `${name}: "x"\n${name}: TAG`)).status, status, name);
    assertEquals((await conditional(place, `${name}: TAG\n${name}: "x"`)).status, status, name);
  }
});

each("heeds no condition where the answer is not the file", async (place) => {
  fs.mkdirSync(place.path("dir"));
  const expected: [string, string, number][] = [
    ["GET", "/missing", 404],
    ["HEAD", "/missing", 404],
    ["GET", "/dir", 301],
    ["GET", "/dir/", 404],
    ["GET", "/%", 400],
    ["DELETE", "/10.bin", 405],
    ["OPTIONS", "/10.bin", 204],
  ];
  const conditions = ['If-Match: "x"', "If-None-Match: *", `If-Modified-Since: ${SECOND_AFTER}`];
  for (const [method, target, status] of expected) {
    for (const condition of [...conditions, `If-Unmodified-Since: ${LONG_AGO}`]) {
      const reply = await ask(place.port, target, { method, fields: `${condition}\r\n` });
      assertEquals(reply.status, status, `${method} ${target} ${condition}`);
    }
  }
});

each("repeats in a 304 what the 200 says of caching, and nothing else", async (place) => {
  const whole = await place.get("/10.bin");
  assertEquals(whole.headers["cache-control"], "no-cache, private");
  const { etag } = whole.headers;
  for (const method of ["GET", "HEAD"]) {
    for (const fields of [`If-None-Match: ${etag}`, `If-Modified-Since: ${LAST_MODIFIED}`]) {
      const reply = place.wellFormed(await ask(place.port, "/10.bin", { method, fields: `${fields}\r\n` }));
      assertNotModified(reply);
      const { "accept-ranges": _, vary, ...rest } = essential(reply.headers);
      assertEquals(vary?.toLowerCase(), "accept-encoding");
      assertEquals(vary, whole.headers.vary);
      assertEquals(rest, { etag, "last-modified": LAST_MODIFIED, "cache-control": "no-cache, private" });
    }
  }
}, { options: { cacheControl: "no-cache, private", precompressed: true } });
