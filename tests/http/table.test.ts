/** What each request gets, on every kind of server: the table of RFC 9110's cases, over raw sockets, byte for byte. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { join, resolve } from "@std/path";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { serveDir, serveFile } from "../../http/mod.ts";
import { sendFile, serveStatic } from "../../http/node.ts";
import { bytes, openBelow } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import {
  ask,
  assertSame,
  Client,
  parseContentRange,
  parseMultipart,
  type Part,
  type Reply,
  request,
  type Span,
} from "../support/http_client.ts";
import { type Kind, KINDS, type Options, type Running, startNode } from "../support/http_servers.ts";
import { MIB, missing, until } from "../support/site.ts";

/** One for each way of a body: within the head's packet, in memory, by sendfile(2) on every server that has it. */
const SIZES = [10, 100_000, 3 * MIB] as const;

const CONTENT = new Map<number, Buffer>(SIZES.map((size) => [size, Buffer.from(bytes(size, size))]));

/** More than the sockets between server and client hold. */
const LARGE = 24 * MIB;

const largeContent = () => Buffer.alloc(LARGE, bytes(1_000_003));

/** With a fraction of a second, which no HTTP date has. */
const MODIFIED = new Date("2021-03-04T05:06:07.890Z");
const LAST_MODIFIED = "Thu, 04 Mar 2021 05:06:07 GMT";
const SECOND_BEFORE = "Thu, 04 Mar 2021 05:06:06 GMT";
const SECOND_AFTER = "Thu, 04 Mar 2021 05:06:08 GMT";

/** A directory `root` to serve, beside a secret, and the server that serves it. */
class Place {
  readonly base = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "table-")));
  readonly root = join(this.base, "root");
  server!: Running;

  constructor(readonly kind: Kind, readonly options: Options = {}) {
    fs.mkdirSync(this.root);
    fs.writeFileSync(join(this.base, "secret.txt"), "SECRET");
    for (const size of SIZES.slice(0, 2)) this.add(`${size}.bin`, CONTENT.get(size)!);
  }

  get port(): number {
    return this.server.port;
  }

  /** SIZES, now that there is a file of each. */
  sizes(): readonly number[] {
    if (!fs.existsSync(this.path(`${SIZES[2]}.bin`))) this.add(`${SIZES[2]}.bin`, CONTENT.get(SIZES[2])!);
    return SIZES;
  }

  path(name: string): string {
    return join(this.root, name);
  }

  add(name: string, content: string | Buffer): Buffer {
    fs.mkdirSync(resolve(this.path(name), ".."), { recursive: true });
    fs.writeFileSync(this.path(name), content);
    fs.utimesSync(this.path(name), MODIFIED, MODIFIED);
    return Buffer.from(content);
  }

  async get(target: string, fields: Fields = {}): Promise<Reply> {
    return this.wellFormed(await ask(this.port, target, { fields: lines(fields) }));
  }

  async head(target: string, fields: Fields = {}): Promise<Reply> {
    return this.wellFormed(await ask(this.port, target, { method: "HEAD", fields: lines(fields) }));
  }

  async tag(target: string, fields: Fields = {}): Promise<string> {
    return (await this.get(target, fields)).headers.etag;
  }

  /** One after the other on one connection: what a body has too much would come as the next one's head. */
  async inTurn(targets: [string, Fields][]): Promise<Reply[]> {
    const client = await Client.to(this.port);
    const replies: Reply[] = [];
    try {
      for (const [target, fields] of targets) {
        client.send(request(target, { fields: lines(fields) }));
        replies.push(this.wellFormed(await client.reply()));
      }
      client.send(request("/10.bin", { fields: "Connection: close\r\n" }));
      assertSame((await client.reply()).body, CONTENT.get(10)!, "behind them");
      assertEquals((await client.rest()).length, 0);
    } finally {
      client.close();
    }
    return replies;
  }

  /** No field twice, none that is malformed, and the body framed by a length wherever the server can do that. */
  wellFormed(reply: Reply): Reply {
    const { head, headers, body } = reply;
    const fields = head.trimEnd().split("\r\n").slice(1);
    for (const field of fields) assert(/^[!#$%&'*+.^_`|~\w-]+: [\x20-\x7e]*$/.test(field), field);
    assertEquals(Object.keys(headers).length, fields.length, `a field comes twice in ${head}`);
    if (headers["transfer-encoding"] === undefined) return reply;
    // Bun.serve sends every stream in chunks, and has nothing but a stream for these.
    const parts = headers["content-type"].startsWith("multipart/") && body.length > 100_000;
    const streamed = parts || this.options.rateLimit !== undefined;
    assert(streamed && this.kind.name === "Bun.serve", `not framed by a length: ${head}`);
    return reply;
  }

  /** Files below the root that this process has open. */
  held(): string[] {
    return openBelow(this.root);
  }
}

type Fields = Record<string, string>;

function lines(fields: Fields): string {
  return Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`).join("");
}

interface EachOptions {
  options?: Options;
  /** Serves this file of the root alone. */
  file?: string;
  skip?: (kind: Kind["name"]) => string | false | undefined;
}

/** A test on every kind of server, of a directory of its own. */
function each(
  name: string,
  body: (place: Place) => Promise<void>,
  { options, file, skip = () => undefined }: EachOptions = {},
): void {
  for (const kind of KINDS) {
    test(`${kind.name} ${name}`, async () => {
      const place = new Place(kind, options);
      try {
        place.server = await kind.start(file ? { file: place.path(file) } : { root: place.root }, options);
        try {
          await body(place);
          assertEquals(place.server.errors, []);
          await until(() => place.held().length === 0, "the files to be closed");
        } finally {
          await place.server.close();
        }
      } finally {
        fs.rmSync(place.base, { recursive: true });
      }
    }, { skip: skip(kind.name) || undefined });
  }
}

/** What a connection and a clock add to every response. */
const INCIDENTAL = ["date", "connection", "keep-alive"];

function essential(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !INCIDENTAL.includes(name)));
}

function assertStrong(tag: string | undefined): void {
  assert(tag !== undefined && /^"[\x21\x23-\x7e]+"$/.test(tag), `a strong tag: ${tag}`);
}

function assertWhole({ status, headers, body }: Reply, content: Buffer): void {
  assertEquals(status, 200);
  assertEquals(headers["content-range"], undefined);
  assertSame(body, content, "the whole");
}

function assertUnsatisfiable({ status, headers }: Reply, size: number): void {
  assertEquals(status, 416);
  assertEquals(headers["content-range"], `bytes */${size}`);
}

/** `several`: more than one range was asked for, so that even one may come as a multipart body. */
function assertPartial(reply: Reply, content: Buffer, spans: Span[], several: boolean): void {
  assertEquals(reply.status, 206);
  assertStrong(reply.headers.etag);
  assertEquals(reply.headers["last-modified"], LAST_MODIFIED);
  const parts = partsOf(reply);
  assert(several || parts === undefined, "one range, no multipart");
  assert(spans.length === 1 || parts !== undefined, "several ranges, one body");
  const single = () => ({ ...parseContentRange(reply.headers["content-range"]), body: reply.body });
  const got = parts ?? [{ ...single(), type: reply.headers["content-type"] }];
  assertEquals(got.map(({ span }) => span), spans);
  for (const { span: [first, last], size, type, body } of got) {
    assertEquals([size, type], [content.length, "application/octet-stream"]);
    assertSame(body, content.subarray(first, last + 1), `${first}-${last}`);
  }
}

function partsOf({ headers, body }: Reply): Part[] | undefined {
  const type = headers["content-type"] ?? "";
  if (!type.startsWith("multipart/")) return undefined;
  assertEquals(headers["content-range"], undefined);
  return parseMultipart(type, body);
}

// Whole files

for (const size of [0, ...SIZES]) {
  each(`sends a file of ${size} bytes, its head exact`, async (place) => {
    const content = place.add(`${size}.bin`, CONTENT.get(size) ?? "");
    const { status, headers, body } = await place.get(`/${size}.bin?query=/../#`);
    assertEquals(status, 200);
    assertSame(body, content, "the body");
    const { etag, "content-disposition": disposition, ...rest } = essential(headers);
    assertStrong(etag);
    // Bun adds a file's name unless the field is there.
    assert(disposition === undefined || (place.kind.name === "Bun.serve" && disposition === "inline"));
    assertEquals(rest, {
      "accept-ranges": "bytes",
      "content-length": `${size}`,
      "content-type": "application/octet-stream",
      "last-modified": LAST_MODIFIED,
    });
  });
}

const TYPES: Record<string, string> = {
  "a.html": "text/html; charset=utf-8",
  "a.HTM": "text/html; charset=utf-8",
  "a.css": "text/css; charset=utf-8",
  "a.js": "text/javascript; charset=utf-8",
  "a.mjs": "text/javascript; charset=utf-8",
  "a.txt": "text/plain; charset=utf-8",
  "a.svg": "image/svg+xml",
  "a.png": "image/png",
  "a.avif": "image/avif",
  "a.woff2": "font/woff2",
  "a.wasm": "application/wasm",
  "a.mp4": "video/mp4",
  "a.tar.gz": "application/gzip",
  "a.unheard-of": "application/octet-stream",
  "a.svgz": "image/svg+xml",
  "README": "text/plain; charset=utf-8",
};

each("gives each file its type", async (place) => {
  for (const [name, type] of Object.entries(TYPES)) {
    place.add(name, "x");
    assertEquals((await place.get(`/${name}`)).headers["content-type"], type, name);
  }
});

each("finds names with spaces, signs and letters of any script", async (place) => {
  const names = [
    "a b.txt",
    "100%.txt",
    "a+b&c=d.txt",
    "#.txt",
    "q?.txt",
    "ä.txt",
    "文.txt",
    "😀.txt",
    "a;b,c.txt",
  ];
  for (const name of names) {
    const content = place.add(name, `this is ${name}`);
    assertWhole(await place.get(`/${encodeURIComponent(name)}`), content);
  }
});

// Range

type RangeRow = [range: (size: number) => string, spans: (last: number) => Span[]];

const DIGITS = "9".repeat(24);

/** Ranges of which one is asked for, and which it is. */
const ONE_RANGE: RangeRow[] = [
  [() => "bytes=0-0", () => [[0, 0]]],
  [() => "bytes=5-", (last) => [[5, last]]],
  [() => "bytes=0-", (last) => [[0, last]]],
  [() => "bytes=-3", (last) => [[last - 2, last]]],
  [() => "bytes=-1", (last) => [[last, last]]],
  [() => "bytes=2-6", () => [[2, 6]]],
  [(size) => `bytes=5-${size + 990}`, (last) => [[5, last]]],
  [(size) => `bytes=0-${size - 1}`, (last) => [[0, last]]],
  [(size) => `bytes=0-${size}`, (last) => [[0, last]]],
  [(size) => `bytes=${size - 1}-`, (last) => [[last, last]]],
  [(size) => `bytes=${size - 1}-${size - 1}`, (last) => [[last, last]]],
  [(size) => `bytes=-${size}`, (last) => [[0, last]]],
  [(size) => `bytes=-${size + 1}`, (last) => [[0, last]]],
  [(size) => `bytes=-${10 * size}`, (last) => [[0, last]]],
  [() => `bytes=-${DIGITS}`, (last) => [[0, last]]],
  [() => `bytes=5-${DIGITS}`, (last) => [[5, last]]],
  [() => "bytes=5-18446744073709551616", (last) => [[5, last]]],
  [() => "bytes=0002-0006", () => [[2, 6]]],
  [() => "BYTES = 0-1", () => [[0, 1]]],
  [() => "Bytes=0-1", () => [[0, 1]]],
  [() => "bytes= 0-1", () => [[0, 1]]],
  [() => "  bytes=0-1  ", () => [[0, 1]]],
  [() => "bytes=0-1,", () => [[0, 1]]],
  [() => "bytes=, ,0-1", () => [[0, 1]]],
];

const SIXTEEN = Array.from({ length: 16 }, (_, i) => i);

/** Lists, and what comes of them. */
const MORE_RANGES: RangeRow[] = [
  [() => "bytes=0-0,-1", (last) => [[0, 0], [last, last]]],
  [() => "bytes=0-1,3-4,6-7", () => [[0, 1], [3, 4], [6, 7]]],
  [() => "bytes=0-1, 3-4 ,\t6-7", () => [[0, 1], [3, 4], [6, 7]]],
  [() => "bytes=,0-1,,3-4, ,", () => [[0, 1], [3, 4]]],
  [() => "bytes=6-7,0-1", () => [[6, 7], [0, 1]]],
  [() => "bytes=0-3,2-5", () => [[0, 3], [2, 5]]],
  [() => "bytes=1-2,1-2", () => [[1, 2], [1, 2]]],
  [() => "bytes=0-1,2-3", () => [[0, 1], [2, 3]]],
  [() => "bytes=0-4,5-", (last) => [[0, 4], [5, last]]],
  [(size) => `bytes=0-1,${size}-`, () => [[0, 1]]],
  [(size) => `bytes=${size}-,0-1,-0`, () => [[0, 1]]],
  [(size) => `bytes=0-1,${size}-,${DIGITS}-,3-4`, () => [[0, 1], [3, 4]]],
  [() => "bytes=-0,-2", (last) => [[last - 1, last]]],
  [() => `bytes=8-${DIGITS},0-0`, (last) => [[8, last], [0, 0]]],
];

const UNSATISFIABLE: ((size: number) => string)[] = [
  () => "bytes=-0",
  (size) => `bytes=${size}-`,
  (size) => `bytes=${size}-${size + 5}`,
  () => "bytes=5-2",
  () => `bytes=${DIGITS}-`,
  () => `bytes=${DIGITS}-${DIGITS}9`,
  () => "bytes=18446744073709551616-18446744073709551617",
  (size) => `bytes=${size}-,-0`,
  (size) => `bytes=${size}-, ${size + 1}-${size + 2}, ${DIGITS}-`,
];

const IGNORED: ((size: number) => string)[] = [
  () => "bytes=",
  () => "bytes=,",
  () => "bytes=2",
  () => "bytes=-",
  () => "bytes=--6",
  () => "bytes=0-1x",
  () => "bytes=x0-1",
  () => "bytes=0-1-2",
  () => "bytes=0x0-0x1",
  () => "bytes=+0-1",
  () => "bytes=0-+1",
  () => "bytes=0.0-1",
  () => "bytes=1e0-5",
  () => "bytes=0-1;3-4",
  () => "bytes=0-1 3-4",
  () => "bytes=0-1,asdf",
  () => "bytes=asdf,0-1",
  () => "bytes=0-1,2",
  () => "items=0-4",
  () => "byte=0-4",
  () => "bytess=0-4",
  () => "0-4",
  () => "bytes 0-4",
  () => "bytes:0-4",
  () => "=0-4",
  () => "asdf",
  // Together longer than the file.
  (size) => `bytes=0-${size - 1},0-0`,
  () => "bytes=0-,0-",
  (size) => `bytes=-${size},-${size},-${size}`,
];

for (const [range, spans] of ONE_RANGE) {
  each(`answers "Range: ${range(10)}" of 10 bytes with 206`, (place) => inRanges(place, range, spans, false));
}

for (const [range, spans] of MORE_RANGES) {
  each(
    `answers "Range: ${range(10)}" of 10 bytes with the parts`,
    (place) => inRanges(place, range, spans, true),
  );
}

async function inRanges(
  place: Place,
  range: RangeRow[0],
  spans: RangeRow[1],
  several: boolean,
): Promise<void> {
  const replies = await place.inTurn(place.sizes().map((size) => [`/${size}.bin`, { Range: range(size) }]));
  replies.forEach((reply, i) => {
    assertPartial(reply, CONTENT.get(SIZES[i])!, spans(SIZES[i] - 1), several);
  });
}

for (const range of UNSATISFIABLE) {
  each(`answers "Range: ${range(10)}" of 10 bytes with 416`, async (place) => {
    const replies = await place.inTurn(place.sizes().map((size) => [`/${size}.bin`, { Range: range(size) }]));
    replies.forEach((reply, i) => assertUnsatisfiable(reply, SIZES[i]));
  });
}

for (const range of IGNORED) {
  each(`answers "Range: ${range(10)}" of 10 bytes with the whole`, async (place) => {
    const replies = await place.inTurn(place.sizes().map((size) => [`/${size}.bin`, { Range: range(size) }]));
    replies.forEach((reply, i) => assertWhole(reply, CONTENT.get(SIZES[i])!));
  });
}

each("sends sixteen ranges, and the whole for seventeen", async (place) => {
  const list = (count: number) => "bytes=" + Array.from({ length: count }, (_, i) => `${3 * i}-${3 * i + 1}`);
  for (const size of place.sizes().slice(1)) {
    const content = CONTENT.get(size)!;
    const [sixteen, seventeen, thousand] = await place.inTurn([
      [`/${size}.bin`, { Range: list(16) }],
      [`/${size}.bin`, { Range: list(17) }],
      [`/${size}.bin`, { Range: list(1000) }],
    ]);
    assertPartial(sixteen, content, SIXTEEN.map((i) => [3 * i, 3 * i + 1]), true);
    assertWhole(seventeen, content);
    assertWhole(thousand, content);
  }
});

each("sends parts that are large themselves", async (place) => {
  const size = place.sizes()[2];
  const range = `bytes=${2 * MIB}-,0-${MIB - 1}`;
  const [reply] = await place.inTurn([[`/${size}.bin`, { Range: range }]]);
  assertPartial(reply, CONTENT.get(size)!, [[2 * MIB, size - 1], [0, MIB - 1]], true);
});

each("gives the parts of a text their type", async (place) => {
  const page = place.add("page.html", "<p>0123456789");
  const reply = await place.get("/page.html", { Range: "bytes=0-2,5-6" });
  const parts = parseMultipart(reply.headers["content-type"], reply.body);
  assertEquals(parts.map(({ type, body }) => [type, String(body)]), [
    ["text/html; charset=utf-8", String(page.subarray(0, 3))],
    ["text/html; charset=utf-8", String(page.subarray(5, 7))],
  ]);
});

each("separates parts of a file that contains text like a boundary", async (place) => {
  const first = await place.get("/100000.bin", { Range: "bytes=0-1,3-4" });
  const boundary = /boundary="?([^"]+)/.exec(first.headers["content-type"])![1];
  const content = place.add("100000.bin", `\r\n--${boundary}--\r\n`.repeat(100));
  const [reply] = await place.inTurn([["/100000.bin", { Range: "bytes=0-999,1000-1999" }]]);
  assertPartial(reply, content, [[0, 999], [1000, 1999]], true);
});

each("ignores every Range of an empty file", async (place) => {
  place.add("0.bin", "");
  const ranges = ["bytes=0-0", "bytes=0-", "bytes=-1", "bytes=-0", "bytes=5-", "bytes=0-0,1-1", "bytes=2-1"];
  const replies = await place.inTurn(ranges.map((Range) => ["/0.bin", { Range }]));
  for (const reply of replies) assertWhole(reply, Buffer.alloc(0));
});

each("answers HEAD with Range as HEAD", async (place) => {
  for (const size of place.sizes()) {
    for (const Range of ["bytes=0-0", "bytes=0-1,3-4", `bytes=${size}-`, "bytes=-0", "asdf"]) {
      const { status, headers } = await place.head(`/${size}.bin`, { Range });
      assertEquals([status, headers["content-length"]], [200, `${size}`], Range);
      assertEquals(headers["content-range"], undefined);
      assertEquals(headers["content-type"], "application/octet-stream");
    }
  }
});

each("has no ranges of what is not there", async (place) => {
  fs.mkdirSync(place.path("dir"));
  const expected: Record<string, number> = { "/missing": 404, "/dir": 301, "/%": 400 };
  for (const [target, status] of Object.entries(expected)) {
    const reply = await place.get(target, { Range: "bytes=0-0", "If-Range": '"x"' });
    assertEquals([reply.status, reply.headers["content-range"]], [status, undefined], target);
  }
});

// Preconditions

/** What comes of the row's lines, in which TAG stands for the file's own tag. */
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

/** Two digits of a year that would be more than 50 years ahead are of the century before. */
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

/** No dates of HTTP. Those who are read all the same lie after MODIFIED. */
const NO_AFTER = ["tomorrow", "2022-03-04T05:06:07Z", "1900000000", "Fri, 32 Mar 2023 05:06:07 GMT"];
NO_AFTER.push("Sat, 04 Mar 2023 25:06:07 GMT", "Sat, 04 Mär 2023 05:06:07 GMT", "04 Mar 2023", "0", "-1");
NO_AFTER.push(
  "Sat, 04 Mar 2023 05:06:07",
  "Sat, 04 Mar 2023 05:06:07 +0000",
  "Sat, 04 Mar 2023 05:06:07 GMT!",
);

/** No dates of HTTP. Those who are read all the same lie before MODIFIED. */
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

/** RFC 9110, 13.2.2. */
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

function assertNotModified({ status, headers }: Reply): void {
  assertEquals(status, 304);
  assertStrong(headers.etag);
  for (const name of ["content-length", "content-type", "content-range", "content-encoding"]) {
    assertEquals(headers[name], undefined, name);
  }
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

// Tags

each("changes the tag with the size and with the time", async (place) => {
  const tags = [await place.tag("/10.bin")];
  assertEquals(await place.tag("/10.bin"), tags[0]);
  place.add("10.bin", "0123456789+");
  tags.push(await place.tag("/10.bin"));
  for (const ms of [-1, 1, 1000]) {
    const time = new Date(MODIFIED.getTime() + ms);
    fs.utimesSync(place.path("10.bin"), time, time);
    tags.push(await place.tag("/10.bin"));
  }
  assertEquals(new Set(tags).size, tags.length, String(tags));
});

/** Sets the time to the nanosecond, which utimes() cannot. */
function touch(path: string, nanoseconds: string): void {
  assertEquals(spawnSync("touch", ["-d", `2021-03-04T05:06:07.${nanoseconds}Z`, path]).status, 0);
}

each("changes the tag with a nanosecond", async (place) => {
  const tags: string[] = [];
  for (const fraction of ["123456788", "123456789", "123456790", "123000000"]) {
    touch(place.path("10.bin"), fraction);
    tags.push(await place.tag("/10.bin"));
  }
  assertEquals(new Set(tags).size, tags.length, String(tags));
}, { skip: () => missing("touch") });

each("gives the tag that Deno and Bun agree on", async (place) => {
  touch(place.path("10.bin"), "123456789");
  assertEquals(await place.tag("/10.bin"), '"a-60406abf.75bcd15"');
}, { skip: () => missing("touch") });

each("gives the same file the same tag as any other server, wherever it lies", async (place) => {
  place.sizes();
  place.add("copy/10.bin", CONTENT.get(10)!);
  assertEquals(await place.tag("/copy/10.bin"), await place.tag("/10.bin"));
  for (const kind of KINDS) {
    const other = await kind.start({ root: place.root });
    try {
      for (const target of ["/10.bin", `/${3 * MIB}.bin`]) {
        assertEquals((await ask(other.port, target)).headers.etag, await place.tag(target), kind.name);
      }
    } finally {
      await other.close();
    }
  }
});

// Methods

each("answers HEAD with the head of GET", async (place) => {
  fs.mkdirSync(place.path("dir"));
  place.add("dir/a.txt", "x");
  place.add("page.html", "<p>");
  place.add("page.html.gz", "gz");
  place.add("sub/index.html", "sub");
  place.add("0.bin", "");
  const targets = [
    "/0.bin",
    ...place.sizes().map((size) => `/${size}.bin`),
    "/page.html",
    "/sub/",
    "/sub",
    "/dir/",
  ];
  targets.push("/missing", "/%", "/10.bin/", "//x");
  const client = await Client.to(place.port);
  for (const target of targets) {
    for (
      const fields of [
        "",
        "Accept-Encoding: gzip\r\n",
        "Accept-Encoding: identity\r\n",
        "If-None-Match: *\r\n",
      ]
    ) {
      client.send(request(target, { fields }));
      const get = place.wellFormed(await client.reply());
      client.send(request(target, { fields, method: "HEAD" }));
      const head = place.wellFormed(await client.reply({ bodiless: true }));
      assertEquals(head.status, get.status, target);
      assertEquals(essential(head.headers), essential(get.headers), `${target} ${fields}`);
    }
  }
  client.close();
}, { options: { precompressed: true, showDirListing: true, maxAge: 1, enableCors: true } });

function assertAllow(field: string | undefined): void {
  assertEquals(new Set((field ?? "").split(/, */)), new Set(["GET", "HEAD", "OPTIONS"]));
}

each("answers OPTIONS with 204 and what is allowed", async (place) => {
  const client = await Client.to(place.port);
  for (const target of ["/", "/10.bin", "/missing"]) {
    client.send(request(target, { method: "OPTIONS" }), request("/10.bin"));
    const { status, headers } = place.wellFormed(await client.reply());
    assertEquals([status, headers["content-length"], headers["content-type"]], [204, undefined, undefined]);
    assertAllow(headers.allow);
    assertSame((await client.reply()).body, CONTENT.get(10)!, "behind it");
  }
  client.close();
});

for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
  each(`answers ${method} with 405, and does not take its body for a request`, async (place) => {
    const body = request("/smuggled.txt");
    place.add("smuggled.txt", "SMUGGLED");
    const framed: string[] = [
      request("/10.bin", { method, fields: "Content-Length: 0\r\n" }),
      request("/10.bin", { method, fields: `Content-Length: ${body.length}\r\n` }) + body,
      request("/10.bin", { method, fields: "Transfer-Encoding: chunked\r\n" }) +
      `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
      request("/missing", { method, fields: `Content-Length: ${body.length * 9000}\r\n` }) +
      body.repeat(9000),
    ];
    for (const text of framed) {
      const client = await Client.to(place.port);
      client.send(text);
      const { status, headers } = place.wellFormed(await client.reply());
      assertEquals(status, 405);
      assertAllow(headers.allow);
      client.send(request("/10.bin", { fields: "Connection: close\r\n" }));
      const rest = await client.rest();
      client.close();
      assert(!rest.includes("SMUGGLED") && !rest.includes("HTTP/1.1 404"), String(rest));
      // A server may end the connection rather than read what it does not want, but has to say so.
      if (rest.length === 0) {
        assertEquals(headers.connection?.toLowerCase(), "close", `after ${text.length} bytes`);
      } else assertSame(rest.subarray(-10), CONTENT.get(10)!, "behind it");
    }
  });
}

each("reads over the body of a GET", async (place) => {
  const body = request("/smuggled.txt");
  place.add("smuggled.txt", "SMUGGLED");
  for (const size of place.sizes()) {
    const client = await Client.to(place.port);
    client.send(request(`/${size}.bin`, { fields: `Content-Length: ${body.length}\r\n` }), body);
    assertWhole(place.wellFormed(await client.reply()), CONTENT.get(size)!);
    client.send(request("/10.bin", { fields: "Connection: close\r\n" }));
    const rest = await client.rest();
    assert(!rest.includes("SMUGGLED"), String(rest));
    client.close();
  }
});

// Precompressed

const ENCODED: Record<string, string> = { br: "the br form", zstd: "the zstd form", gzip: "the gzip form" };
const SUFFIX: Record<string, string> = { br: "br", zstd: "zst", gzip: "gz" };
const PAGE = "<p>the page itself, longer than what comes of it";

/** A page with siblings; their bytes need not be compressed to be told apart. */
function addEncoded(place: Place, encodings = Object.keys(ENCODED)): void {
  place.add("page.html", PAGE);
  for (const encoding of encodings) place.add(`page.html.${SUFFIX[encoding]}`, ENCODED[encoding]);
}

type Negotiation = [accept: string | undefined, encoding: string | undefined];

const ALL_FORMS: Negotiation[] = [
  [undefined, undefined],
  ["", undefined],
  ["identity", undefined],
  ["deflate", undefined],
  ["brotli, gzipped, xbr", undefined],
  ["br", "br"],
  ["zstd", "zstd"],
  ["gzip", "gzip"],
  ["GZip", "gzip"],
  ["gzip, deflate, br, zstd", "br"],
  ["gzip, zstd", "zstd"],
  ["*", "br"],
  ["gzip;q=1.0, br;q=0.5", "gzip"],
  ["gzip;q=0.5,br;q=0.6,zstd;q=0.55", "br"],
  ["gzip ; q=0.9 , br ; q=0.8", "gzip"],
  ["gzip;Q=0.9,br;Q=0.8", "gzip"],
  ["gzip;q=0.001", "gzip"],
  ["gzip;q=0", undefined],
  ["gzip;q=0.0, br;q=0.000", undefined],
  ["br;q=0, *", "zstd"],
  ["br;q=0, zstd;q=0, *;q=0.1", "gzip"],
  ["gzip, *;q=0", "gzip"],
  ["identity, gzip;q=0.5", undefined],
  ["identity;q=0.2, gzip;q=0.5", "gzip"],
  ["identity;q=0, gzip;q=0.1", "gzip"],
  ["identity;q=0, *", "br"],
  [",, gzip,,", "gzip"],
];

const GZIP_ONLY: Negotiation[] = [
  ["gzip, deflate, br, zstd", "gzip"],
  ["br;q=1, gzip;q=0.1", "gzip"],
  ["br", undefined],
  ["*", "gzip"],
];

/** Answers the form that was chosen, and checks all that its head says of it. */
async function negotiate(place: Place, [accept, encoding]: Negotiation): Promise<void> {
  const fields: Fields = accept === undefined ? {} : { "Accept-Encoding": accept };
  const reply = await place.get("/page.html", fields);
  assertEquals(reply.headers["content-encoding"], encoding);
  assertWhole(reply, Buffer.from(encoding ? ENCODED[encoding] : PAGE));
  assertEquals(reply.headers["content-type"], "text/html; charset=utf-8");
  assertEquals(reply.headers.vary?.toLowerCase(), "accept-encoding");
  assertStrong(reply.headers.etag);
}

for (const row of ALL_FORMS) {
  each(
    `sends to "Accept-Encoding: ${row[0] ?? "(none)"}" ${row[1] ?? "the file itself"} of all forms`,
    async (place) => {
      addEncoded(place);
      await negotiate(place, row);
    },
    { options: { precompressed: true } },
  );
}

for (const row of GZIP_ONLY) {
  each(
    `sends to "Accept-Encoding: ${row[0]}" ${row[1] ?? "the file itself"} where gzip is all there is`,
    async (place) => {
      addEncoded(place, ["gzip"]);
      await negotiate(place, row);
    },
    { options: { precompressed: true } },
  );
}

each("says Vary where no form exists", async (place) => {
  place.add("page.html", PAGE);
  await negotiate(place, [undefined, undefined]);
  await negotiate(place, ["br, gzip", undefined]);
}, { options: { precompressed: true } });

each("offers the listed forms only, the first one first", async (place) => {
  addEncoded(place);
  await negotiate(place, ["br, gzip, zstd", "gzip"]);
  await negotiate(place, ["br;q=1, gzip;q=0.9, zstd;q=0.9", "gzip"]);
  await negotiate(place, ["br, zstd", "zstd"]);
  await negotiate(place, ["br", undefined]);
}, { options: { precompressed: ["gzip", "zstd"] } });

each("offers no form unless asked to, and compresses nothing itself", async (place) => {
  addEncoded(place);
  place.add("long.txt", "compressible ".repeat(10_000));
  const plain = await place.tag("/long.txt");
  for (const target of ["/page.html", "/long.txt"]) {
    const { headers } = await place.get(target, { "Accept-Encoding": "gzip, br, zstd" });
    assertEquals([headers["content-encoding"], headers.vary], [undefined, undefined], target);
  }
  assertEquals(await place.tag("/long.txt", { "Accept-Encoding": "gzip, br" }), plain);
});

each("gives each form a tag of its own, and 304 for that one only", async (place) => {
  addEncoded(place);
  const accepts: Fields[] = [{}, ...Object.keys(ENCODED).map((name) => ({ "Accept-Encoding": name }))];
  const tags = await Promise.all(accepts.map((fields) => place.tag("/page.html", fields)));
  assertEquals(new Set(tags).size, 4, String(tags));
  for (const [i, fields] of accepts.entries()) {
    for (const [j, tag] of tags.entries()) {
      const reply = await place.get("/page.html", { ...fields, "If-None-Match": tag });
      assertEquals(reply.status, i === j ? 304 : 200, `${JSON.stringify(fields)} ${tag}`);
      assertEquals(reply.headers.etag, tags[i]);
      assertEquals(reply.headers.vary?.toLowerCase(), "accept-encoding");
      if (i === j) assertNotModified(reply);
      assertEquals(
        (await place.get("/page.html", { ...fields, "If-Match": tag })).status,
        i === j ? 200 : 412,
      );
    }
  }
}, { options: { precompressed: true } });

each("gives forms of one size and time tags of their own", async (place) => {
  place.add("page.html", "1234");
  place.add("page.html.gz", "1234");
  place.add("page.html.br", "1234");
  const tags = [{}, { "Accept-Encoding": "gzip" }, { "Accept-Encoding": "br" }] as Fields[];
  const found = await Promise.all(tags.map((fields) => place.tag("/page.html", fields)));
  assertEquals(new Set(found).size, 3, String(found));
}, { options: { precompressed: true } });

each("sends ranges of the encoded form", async (place) => {
  const form = CONTENT.get(100_000)!;
  place.add("page.html", PAGE);
  place.add("page.html.gz", form);
  const accept = { "Accept-Encoding": "gzip" };
  const tag = await place.tag("/page.html", accept);
  const part = await place.get("/page.html", { ...accept, Range: "bytes=50000-", "If-Range": tag });
  assertEquals([part.status, part.headers["content-range"]], [206, "bytes 50000-99999/100000"]);
  assertSame(part.body, form.subarray(50_000), "the second half");
  assertEquals([part.headers["content-encoding"], part.headers.etag], ["gzip", tag]);
  assertEquals(part.headers.vary?.toLowerCase(), "accept-encoding");
  // In front of parts, Content-Encoding would speak of all of them, heads included.
  const several = await place.get("/page.html", { ...accept, Range: "bytes=0-1,-2" });
  assertWhole(several, form);
  assertEquals(several.headers["content-encoding"], "gzip");
  assertUnsatisfiable(await place.get("/page.html", { ...accept, Range: "bytes=100000-" }), 100_000);
  const other = await place.get("/page.html", { Range: "bytes=0-1", "If-Range": tag });
  assertWhole(other, Buffer.from(PAGE));
}, { options: { precompressed: true } });

each("never sends a form from outside of the root, nor one that is no file", async (place) => {
  place.add("page.html", PAGE);
  fs.symlinkSync("../secret.txt", place.path("page.html.br"));
  fs.mkdirSync(place.path("page.html.zst"));
  assertEquals(spawnSync("mkfifo", [place.path("page.html.gz")]).status, 0);
  for (const name of ["br", "zstd", "gzip", "*"]) await negotiate(place, [name, undefined]);
}, { options: { precompressed: true }, skip: () => missing("mkfifo") });

each("sends a form of the index and of what stands for a page", async (place) => {
  for (const name of ["index.html", "about.html"]) {
    place.add(name, PAGE);
    place.add(`${name}.gz`, ENCODED.gzip);
  }
  const accept = { "Accept-Encoding": "gzip", Accept: "text/html" };
  for (const target of ["/", "/index.html", "/about", "/some/page"]) {
    const reply = await place.get(target, accept);
    assertEquals([reply.status, reply.headers["content-encoding"]], [200, "gzip"], target);
    assertEquals(String(reply.body), ENCODED.gzip);
    assertEquals(reply.headers["content-type"], "text/html; charset=utf-8");
  }
}, { options: { precompressed: true, spa: true, cleanUrls: true } });

each("serves a form by its own name as a file like any other", async (place) => {
  addEncoded(place);
  const { status, headers, body } = await place.get("/page.html.gz", { "Accept-Encoding": "gzip" });
  assertEquals([status, String(body)], [200, ENCODED.gzip]);
  assertEquals([headers["content-type"], headers["content-encoding"]], ["application/gzip", undefined]);
}, { options: { precompressed: true } });

// Options

const BROWSER = { Accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8" };

each("sends index.html for a page that is missing, as spa says", async (place) => {
  const index = place.add("index.html", "the application");
  place.add("sub/page.html", "a page");
  for (const target of ["/", "/missing", "/deep/er/page", "/missing/", "/user/%C3%A4?tab=1"]) {
    const reply = await place.get(target, BROWSER);
    assertWhole(reply, index);
    assertEquals(reply.headers["content-type"], "text/html; charset=utf-8", target);
    assertEquals((await place.head(target, BROWSER)).headers["content-length"], `${index.length}`);
  }
  const { etag } = (await place.get("/", BROWSER)).headers;
  assertNotModified(await place.get("/missing", { ...BROWSER, "If-None-Match": etag }));
  assertEquals(String((await place.get("/sub/page.html", BROWSER)).body), "a page");
  for (const target of ["/missing.js", "/assets/missing.css", "/favicon.ico"]) {
    assertEquals((await place.get(target, BROWSER)).status, 404, target);
  }
  assertEquals((await place.get("/api/users", { Accept: "application/json" })).status, 404);
  assertEquals((await ask(place.port, "/missing", { method: "DELETE" })).status, 405);
}, { options: { spa: true } });

each("sends the file that spa names", async (place) => {
  const shell = place.add("app/shell.html", "the shell");
  assertWhole(await place.get("/missing", BROWSER), shell);
  assertEquals((await place.get("/missing.js", BROWSER)).status, 404);
}, { options: { spa: "app/shell.html" } });

each("answers 404 where the file that spa names is missing too", async (place) => {
  assertEquals((await place.get("/missing", BROWSER)).status, 404);
}, { options: { spa: true } });

each("tries the names of index in order", async (place) => {
  place.add("a/home.htm", "home");
  place.add("a/index.html", "index");
  place.add("b/index.html", "index");
  place.add("c/other.html", "other");
  fs.mkdirSync(place.path("d/home.htm"), { recursive: true });
  place.add("d/index.html", "index");
  const expected: Record<string, [number, string?]> = {
    "/a/": [200, "home"],
    "/b/": [200, "index"],
    "/c/": [404],
    "/d/": [200, "index"],
  };
  for (const [target, [status, content]] of Object.entries(expected)) {
    const reply = await place.get(target);
    assertEquals(reply.status, status, target);
    if (content) assertEquals(String(reply.body), content);
  }
}, { options: { index: ["home.htm", "index.html"] } });

each("shows no index where showIndex is false", async (place) => {
  place.add("index.html", "index");
  assertEquals((await place.get("/")).status, 404);
  assertEquals((await place.get("/index.html")).status, 200);
}, { options: { showIndex: false } });

each("tries extensions in order, a file's very name first", async (place) => {
  for (const name of ["a", "a.html", "b.html", "b.txt", "c.txt", "d.json"]) {
    place.add(name, `this is ${name}`);
  }
  fs.mkdirSync(place.path("c.html"));
  const expected: Record<string, string | undefined> = {
    "/a": "this is a",
    "/b": "this is b.html",
    "/c": "this is c.txt",
    "/d": undefined,
    "/b/": undefined,
  };
  for (const [target, content] of Object.entries(expected)) {
    const { status, body } = await place.get(target);
    assertEquals(status, content ? 200 : 404, target);
    if (content) assertEquals(String(body), content);
  }
  assertEquals((await place.get("/b")).headers["content-type"], "text/html; charset=utf-8");
}, { options: { extensions: ["html", "txt"] } });

each("leaves .html away where cleanUrls says so", async (place) => {
  const page = place.add("about.html", "about");
  const reply = await place.get("/about", { Range: "bytes=1-2" });
  assertEquals([reply.status, String(reply.body)], [206, "bo"]);
  assertWhole(await place.get("/about?q"), page);
  assertWhole(await place.get("/about.html"), page);
  assertEquals((await place.get("/missing")).status, 404);
  assertEquals((await place.get("/10")).status, 404);
}, { options: { cleanUrls: true } });

for (const urlRoot of ["static", "/static/"]) {
  each(`serves below urlRoot ${urlRoot} only`, async (place) => {
    place.add("index.html", "index");
    place.add("sub/index.html", "sub");
    place.add("static/inner.txt", "inner");
    assertWhole(await place.get("/static/10.bin"), CONTENT.get(10)!);
    assertEquals(String((await place.get("/static/")).body), "index");
    assertEquals(String((await place.get("/static/static/inner.txt")).body), "inner");
    const { status, headers } = await place.get("/static/sub?q=1");
    assertEquals([status, headers.location], [301, "sub/?q=1"]);
    for (const target of ["/10.bin", "/", "/sub/", "/staticx/10.bin", "/static10.bin", "/STATIC/10.bin"]) {
      assertEquals((await place.get(target)).status, 404, target);
    }
    for (const target of ["/static/../10.bin", "/static/../../secret.txt", "//10.bin"]) {
      const reply = await place.get(target);
      assert(reply.status === 404 && !reply.body.includes("SECRET"), target);
    }
  }, { options: { urlRoot } });
}

each("sends cacheControl as it is", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["cache-control"], "no-store");
  assertEquals((await place.get("/10.bin", { Range: "bytes=0-1" })).headers["cache-control"], "no-store");
}, { options: { cacheControl: "no-store" } });

each("lets caches keep a file for maxAge", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["cache-control"], "public, max-age=60");
}, { options: { maxAge: 60 } });

each("takes a maxAge of 0 for one", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["cache-control"], "public, max-age=0");
}, { options: { maxAge: 0 } });

each("says immutable", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["cache-control"], "public, max-age=9, immutable");
  const missed = (await place.get("/missing")).headers["cache-control"] ?? "";
  assert(!missed.includes("max-age"), "a 404 is not kept");
}, { options: { maxAge: 9, immutable: true } });

each("adds header lines to every response", async (place) => {
  for (
    const [target, fields] of [["/10.bin", {}], ["/10.bin", { Range: "bytes=0-1" }], [
      "/missing",
      {},
    ]] as const
  ) {
    const { headers } = await place.get(target, fields);
    assertEquals([headers["x-one"], headers["x-two"]], ["1", "a: b, c"], target);
  }
  assertEquals((await place.head("/10.bin")).headers["x-one"], "1");
  assertEquals((await place.get("/10.bin")).headers["content-type"], "text/x-own");
}, { options: { headers: ["X-One: 1", "x-two: a: b, c", "Content-Type: text/x-own"] } });

each("adds the headers that a function gives for the file", async (place) => {
  const content = place.add("sub/index.html", "index");
  const { status, headers, body } = await place.get("/sub/");
  assertEquals([status, String(body)], [200, "index"]);
  assertEquals(headers["x-path"], place.path("sub/index.html"));
  assertEquals(headers["x-stat"], `${content.length} ${MODIFIED.toISOString()}`);
  assertEquals(headers["cache-control"], "no-cache");
  assertEquals((await place.get("/missing")).headers["x-path"], undefined);
}, {
  options: {
    maxAge: 5,
    headers: (path, { size, mtime }) => ({
      "X-Path": path,
      "X-Stat": `${size} ${mtime.toISOString()}`,
      "Cache-Control": "no-cache",
    }),
  },
});

each("takes Headers and pairs from the function too", async (place) => {
  assertEquals((await place.get("/10.bin")).headers["x-form"], "headers");
  assertEquals((await place.get("/100000.bin")).headers["x-form"], "pairs");
}, {
  options: {
    headers: (path) =>
      path.endsWith("/10.bin") ? new Headers({ "X-Form": "headers" }) : [["X-Form", "pairs"]],
  },
});

each("lets other origins in where enableCors says so", async (place) => {
  for (const target of ["/10.bin", "/missing"]) {
    const { headers } = await place.get(target, { Origin: "https://other.example" });
    assertEquals(headers["access-control-allow-origin"], "*", target);
    assertStringIncludes(headers["access-control-allow-headers"], "Range");
  }
  const preflight = await ask(place.port, "/10.bin", {
    method: "OPTIONS",
    fields: "Origin: https://other.example\r\nAccess-Control-Request-Method: GET\r\n",
  });
  assertEquals([preflight.status, preflight.headers["access-control-allow-origin"]], [204, "*"]);
}, { options: { enableCors: true } });

each("lets no other origin in by itself", async (place) => {
  const { headers } = await place.get("/10.bin", { Origin: "https://other.example" });
  assertEquals(Object.keys(headers).filter((name) => name.startsWith("access-control")), []);
});

const DOTFILES = [".env", ".git/config", "dir/.hidden/file.txt", ".well-known2/x"];

each("shows no dotfiles but .well-known", async (place) => {
  for (const name of DOTFILES) place.add(name, "SECRET");
  place.add(".well-known/security.txt", "Contact: x");
  for (const target of [...DOTFILES.map((name) => `/${name}`), "/%2eenv", "/.git", "/.git/"]) {
    assertEquals((await place.get(target)).status, 404, target);
  }
  assertEquals(String((await place.get("/.well-known/security.txt")).body), "Contact: x");
});

each("shows dotfiles where showDotfiles says so", async (place) => {
  for (const name of DOTFILES) {
    const content = place.add(name, `this is ${name}`);
    assertWhole(await place.get(`/${name}`), content);
  }
  for (
    const target of ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/.git/../../secret.txt"]
  ) {
    assertEquals((await place.get(target)).status, 404, target);
  }
}, { options: { showDotfiles: true } });

each("redirects a directory to its slash, the query kept", async (place) => {
  place.add("sub/index.html", "sub");
  place.add("a b%/index.html", "odd");
  fs.mkdirSync(place.path("bare"));
  const expected: Record<string, [number, string?]> = {
    "/sub": [301, "sub/"],
    "/sub?": [301, "sub/?"],
    "/sub?a=/../b&c=%2f": [301, "sub/?a=/../b&c=%2f"],
    "/a%20b%25?x": [301, "a%20b%25/?x"],
    "/bare": [301, "bare/"],
    "/sub/": [200, undefined],
    "/bare/": [404, undefined],
    "/10.bin/": [301, "../10.bin"],
    "/10.bin/x": [404, undefined],
    "http://other.example/sub?q": [301, "sub/?q"],
    "http://other.example/sub/": [200, undefined],
  };
  for (const [target, [status, location]] of Object.entries(expected)) {
    const reply = await place.get(target);
    assertEquals([reply.status, reply.headers.location], [status, location], target);
  }
});

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

for (const rateLimit of [16 * MIB, 1e12]) {
  each(`sends the same bytes at ${rateLimit} a second`, async (place) => {
    const replies = await place.inTurn(place.sizes().map((size) => [`/${size}.bin`, {}]));
    replies.forEach((reply, i) => assertWhole(reply, CONTENT.get(SIZES[i])!));
    const [part] = await place.inTurn([[`/${3 * MIB}.bin`, { Range: `bytes=${MIB}-` }]]);
    assertPartial(part, CONTENT.get(3 * MIB)!, [[MIB, 3 * MIB - 1]], false);
  }, { options: { rateLimit } });
}

for (const size of SIZES) {
  each(`sends the one file of ${size} bytes whatever the URL says`, async (place) => {
    const content = place.add(`${size}.bin`, CONTENT.get(size)!);
    for (const target of ["/", "/anything?q", "/%zz", "//x", "/../.."]) {
      assertWhole(await place.get(target), content);
    }
    const { headers } = await place.get("/");
    assertEquals([headers["content-type"], headers["last-modified"]], [
      "application/octet-stream",
      LAST_MODIFIED,
    ]);
    assertEquals((await place.head("/")).headers["content-length"], `${size}`);
    assertPartial(await place.get("/", { Range: "bytes=2-6" }), content, [[2, 6]], false);
    assertPartial(
      await place.get("/", { Range: "bytes=0-1,-2" }),
      content,
      [[0, 1], [size - 2, size - 1]],
      true,
    );
    assertUnsatisfiable(await place.get("/", { Range: `bytes=${size}-` }), size);
    assertNotModified(await place.get("/", { "If-None-Match": headers.etag }));
    assertEquals((await place.get("/", { "If-Match": '"x"' })).status, 412);
    const refused = await ask(place.port, "/", { method: "POST", fields: "Content-Length: 0\r\n" });
    assertEquals(refused.status, 405);
    assertAllow(refused.headers.allow);
  }, { file: `${size}.bin` });
}

each("takes the options with the one file too", async (place) => {
  place.add("10.bin.gz", "gz");
  const { headers, body } = await place.get("/", { "Accept-Encoding": "gzip" });
  assertEquals([headers["content-encoding"], String(body)], ["gzip", "gz"]);
  assertEquals([headers["cache-control"], headers["x-own"]], ["public, max-age=7", "1"]);
}, { file: "10.bin", options: { precompressed: true, maxAge: 7, headers: ["X-Own: 1"] } });

for (const file of ["missing", "dir", "pipe", "10.bin/x"]) {
  each(`answers 404 where the one file is ${file}`, async (place) => {
    fs.mkdirSync(place.path("dir"));
    assertEquals(spawnSync("mkfifo", [place.path("pipe")]).status, 0);
    for (const reply of [await place.get("/"), await place.head("/")]) {
      assertEquals(reply.status, 404);
      assert(!reply.body.includes(place.root), String(reply.body));
    }
  }, { file, skip: () => missing("mkfifo") });
}

const REFUSED: [Options, typeof TypeError | typeof RangeError][] = [
  [{ rateLimit: 0 }, RangeError],
  [{ rateLimit: -1 }, RangeError],
  [{ rateLimit: NaN }, RangeError],
  [{ maxAge: -1 }, RangeError],
  [{ cacheControl: "no-store", maxAge: 1 }, TypeError],
  [{ precompressed: ["lzma"] }, TypeError],
  [{ headers: ["no colon"] }, TypeError],
  [{ headers: ["X: a\r\nY: b"] }, TypeError],
  [{ headers: ["X Y: a"] }, TypeError],
  [{ headers: ["Content-Length: 1"] }, TypeError],
  [{ index: 1 as unknown as string[] }, TypeError],
  [{ extensions: [1] as unknown as string[] }, TypeError],
];

for (const [options, error] of REFUSED) {
  test(`serveDir and serveStatic refuse ${JSON.stringify(options)}`, async () => {
    const root = import.meta.dirname!;
    await assertRejects(() => serveDir(new Request("http://test/"), { ...options, fsRoot: root }), error);
    assertThrows(() => serveStatic(root, options), error);
  });
}

// What must never come

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

/** Bun.serve resolves `..` before its handler sees it: there, what is inside may come, too. */
function assertOutside({ kind }: Place, target: string, { status, headers, body }: Reply): void {
  assert(!body.includes("SECRET") && !body.includes("root:"), target);
  assert(!/^(\/\/|\/\\|\w+:)/.test(headers.location ?? ""), `${target} leads to ${headers.location}`);
  if (kind.name === "Bun.serve") return;
  assert(status === 404 || status === 400, `${target}: ${status}`);
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
  fs.mkdirSync(join(place.base, "root-beside"));
  fs.writeFileSync(join(place.base, "root-beside/index.html"), "SECRET");
  const links: [string, string, number][] = [
    ["in.txt", "dir/file.txt", 200],
    ["absolute.txt", place.path("dir/file.txt"), 200],
    ["out.txt", "../secret.txt", 404],
    ["etc.txt", "/etc/passwd", 404],
    ["up", "..", 404],
    ["beside", "../root-beside", 404],
    ["null", "/dev/null", 404],
    ["broken", "nowhere", 404],
    ["loop", "loop", 404],
  ];
  for (const [name, target, status] of links) {
    fs.symlinkSync(target, place.path(name));
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

// Connections

/** What a connection may ask for, and what must come of it. */
const MIX: [
  target: string,
  method: string,
  fields: Fields,
  status: number,
  body?: () => Buffer,
  parts?: Span[],
][] = [
  ["/10.bin", "GET", {}, 200, () => CONTENT.get(10)!],
  [`/${3 * MIB}.bin`, "HEAD", {}, 200],
  [`/${3 * MIB}.bin`, "GET", {}, 200, () => CONTENT.get(3 * MIB)!],
  ["/missing", "GET", {}, 404],
  [
    `/${3 * MIB}.bin`,
    "GET",
    { Range: "bytes=5-1000004" },
    206,
    () => CONTENT.get(3 * MIB)!.subarray(5, 1000005),
  ],
  ["/10.bin", "GET", { Range: "bytes=10-" }, 416],
  ["/100000.bin", "GET", {}, 200, () => CONTENT.get(100_000)!],
  ["/10.bin", "GET", { "If-None-Match": "*" }, 304],
  ["/10.bin", "GET", { "If-Match": '"x"' }, 412],
  ["/10.bin", "OPTIONS", {}, 204],
  [`/${3 * MIB}.bin`, "GET", {}, 200, () => CONTENT.get(3 * MIB)!],
  ["/100000.bin", "GET", { Range: "bytes=0-1,3-4" }, 206, undefined, [[0, 1], [3, 4]]],
  [
    `/${3 * MIB}.bin`,
    "GET",
    { Range: "bytes=0-999999,1000000-1999999" },
    206,
    undefined,
    [[0, 999_999], [1_000_000, 1_999_999]],
  ],
  ["/missing", "HEAD", {}, 404],
  ["/dir", "GET", {}, 301],
  ["/10.bin", "GET", {}, 200, () => CONTENT.get(10)!],
];

type Mixed = typeof MIX[number];

const textOf = ([target, method, fields]: Mixed) => request(target, { method, fields: lines(fields) });

async function takeMixed(
  place: Place,
  client: Client,
  [target, method, , status, body, parts]: Mixed,
): Promise<void> {
  const reply = place.wellFormed(await client.reply({ bodiless: method === "HEAD" }));
  assertEquals(reply.status, status, `${method} ${target}`);
  if (body) assertSame(reply.body, body(), target);
  if (parts === undefined) return;
  const content = CONTENT.get(parseInt(target.slice(1)))!;
  assertPartial(reply, content, parts, true);
}

each("keeps a connection through everything", async (place) => {
  fs.mkdirSync(place.path("dir"));
  place.sizes();
  const client = await Client.to(place.port);
  for (const mixed of [...MIX, ...MIX]) {
    client.send(textOf(mixed));
    await takeMixed(place, client, mixed);
  }
  client.close();
});

const PIPELINING = "oven-sh/bun#38128: Bun.serve closes the connection";

each("answers pipelined requests in order", async (place) => {
  fs.mkdirSync(place.path("dir"));
  place.sizes();
  const client = await Client.to(place.port);
  client.send(...MIX.map(textOf), ...MIX.map(textOf));
  for (const mixed of [...MIX, ...MIX]) await takeMixed(place, client, mixed);
  client.send(request("/10.bin", { fields: "Connection: close\r\n" }));
  assertSame((await client.reply()).body, CONTENT.get(10)!, "the last");
  assertEquals((await client.rest()).length, 0);
  client.close();
}, { skip: (kind) => kind === "Bun.serve" && PIPELINING });

each("answers pipelined requests that come in pieces", async (place) => {
  fs.mkdirSync(place.path("dir"));
  place.sizes();
  const client = await Client.to(place.port);
  const text = MIX.map(textOf).join("");
  const taken = (async () => {
    for (const mixed of MIX) await takeMixed(place, client, mixed);
  })();
  for (let at = 0; at < text.length; at += 37) {
    client.send(text.slice(at, at + 37));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await taken;
  client.close();
}, { skip: (kind) => kind === "Bun.serve" && PIPELINING });

each("answers a hundred small pipelined requests", async (place) => {
  const client = await Client.to(place.port);
  client.send(request("/10.bin").repeat(99), request("/10.bin", { fields: "Connection: close\r\n" }));
  for (let i = 0; i < 100; i++) assertSame((await client.reply()).body, CONTENT.get(10)!, `${i}`);
  assertEquals((await client.rest()).length, 0);
  client.close();
});

each("sends each of many clients its own", async (place) => {
  const sizes = place.sizes();
  const fetched = Array.from({ length: 60 }, async (_, i) => {
    const size = sizes[i % 3];
    const first = i % 7;
    const reply = await place.get(`/${size}.bin`, { Range: `bytes=${first}-` });
    assertPartial(reply, CONTENT.get(size)!, [[first, size - 1]], false);
  });
  await Promise.all(fetched);
});

each("ends the connection after Connection: close and after HTTP/1.0", async (place) => {
  for (const size of place.sizes()) {
    for (const options of [{ fields: "Connection: close\r\n" }, { version: "1.0" }]) {
      const client = await Client.to(place.port);
      client.send(request(`/${size}.bin`, options));
      assertWhole(place.wellFormed(await client.reply()), CONTENT.get(size)!);
      assertEquals((await client.rest()).length, 0);
      client.close();
    }
  }
});

each("answers HTTP/1.0 without Host, ranges and conditions too", async (place) => {
  const expected: [string, number, number][] = [
    ["", 200, 100_000],
    ["Range: bytes=0-1\r\n", 206, 2],
    ["If-None-Match: *\r\n", 304, 0],
  ];
  for (const [fields, status, length] of expected) {
    const client = await Client.to(place.port);
    client.send(`GET /100000.bin HTTP/1.0\r\n${fields}\r\n`);
    const reply = place.wellFormed(await client.reply());
    assertEquals(reply.status, status);
    assertSame(reply.body, CONTENT.get(100_000)!.subarray(0, length), fields);
    assertEquals((await client.rest()).length, 0);
    client.close();
  }
});

for (const size of SIZES) {
  each(`keeps an HTTP/1.0 connection that asks for it, after ${size} bytes`, async (place) => {
    place.sizes();
    const client = await Client.to(place.port);
    for (let i = 0; i < 3; i++) {
      client.send(request(`/${size}.bin`, { version: "1.0", fields: "Connection: keep-alive\r\n" }));
      const reply = place.wellFormed(await client.reply());
      assertWhole(reply, CONTENT.get(size)!);
      assertEquals(reply.headers.connection?.toLowerCase(), "keep-alive");
    }
    client.close();
  }, {
    skip: (kind) => {
      if (kind === "FileServer") return false;
      if (isBun) return "Bun ends HTTP/1.0 connections";
      return kind === "Deno.serve" && size > 10 && "Deno.serve ends them behind a streamed body";
    },
  });
}

for (const size of [...SIZES, LARGE]) {
  each(`sends ${size} bytes to who has shut the other direction down`, async (place) => {
    const content = place.add(`${size}.bin`, CONTENT.get(size) ?? largeContent());
    const client = await Client.to(place.port);
    client.send(request(`/${size}.bin`));
    client.finish();
    assertWhole(place.wellFormed(await client.reply()), content);
    assertEquals((await client.rest()).length, 0);
    client.close();
  }, {
    skip: (kind) => {
      if (kind === "Deno.serve") return size > 10 && "Deno.serve gives a streamed body up";
      return kind === "Bun.serve" && size > 100_000 && "Bun.serve sends what fits into the socket's buffer";
    },
  });
}

each("sends what is asked for to who reads late", async (place) => {
  const content = place.add(`${LARGE}.bin`, largeContent());
  const client = await Client.to(place.port);
  client.send(request(`/${LARGE}.bin`, { fields: "Connection: close\r\n" }));
  await client.begun();
  assertEquals((await place.get("/10.bin")).status, 200); // others are served meanwhile
  client.socket.resume();
  assertWhole(place.wellFormed(await client.reply()), content);
  assertEquals((await client.rest()).length, 0);
  client.close();
});

const STALLING = "Bun.serve lets a file that became shorter stall until its idleTimeout";

const LEAVING: [string, string][] = [
  ["a file", ""],
  ["a range", "Range: bytes=5-\r\n"],
  ["parts", `Range: bytes=0-${LARGE / 2 - 1},${LARGE / 2}-\r\n`],
];

for (const [what, fields] of LEAVING) {
  each(`survives clients that leave in the middle of ${what}`, async (place) => {
    const content = place.add(`${LARGE}.bin`, largeContent());
    const clients = await Promise.all(Array.from({ length: 12 }, () => Client.to(place.port)));
    await Promise.all(clients.map((client, i) => {
      // Every other one with more requests behind, which will never have their turn.
      client.send(request(`/${LARGE}.bin`, { fields }).repeat(i % 2 === 0 || isBun ? 1 : 3));
      return client.begun();
    }));
    clients.forEach(({ socket }, i) => i % 3 === 0 ? socket.resetAndDestroy() : socket.destroy());
    await until(() => place.held().length === 0, "the files to be closed");
    assertWhole(await place.get(`/${LARGE}.bin`), content);
  });

  each(`ends the connection where a file becomes shorter in the middle of ${what}`, async (place) => {
    const content = place.add(`${LARGE}.bin`, largeContent());
    const whole = place.wellFormed(await ask(place.port, `/${LARGE}.bin`, { fields }));
    const client = await Client.to(place.port);
    client.send(request(`/${LARGE}.bin`, { fields }));
    // Bun.serve closes the connection for this (see PIPELINING), which is not what is to be seen here.
    if (place.kind.name !== "Bun.serve") client.send(request("/10.bin"));
    await client.begun();
    fs.truncateSync(place.path(`${LARGE}.bin`), 0);
    client.socket.resume();
    const all = await client.rest();
    client.close();
    assertPrefix(all, whole, content);
    // A stream that must end early can only fail, and Deno.serve tells its onError of that.
    assertEquals(place.server.errors.splice(0).filter((error) => !/became shorter/.test(String(error))), []);
    assertWhole(await place.get("/10.bin"), CONTENT.get(10)!);
  }, { skip: (kind) => kind === "Bun.serve" && !what.startsWith("parts") && STALLING });

  each(`sends what was promised where a file grows in the middle of ${what}`, async (place) => {
    place.add(`${LARGE}.bin`, largeContent());
    const whole = place.wellFormed(await ask(place.port, `/${LARGE}.bin`, { fields }));
    const client = await Client.to(place.port);
    client.send(request(`/${LARGE}.bin`, { fields: `Connection: close\r\n${fields}` }));
    await client.begun();
    fs.appendFileSync(place.path(`${LARGE}.bin`), bytes(MIB));
    client.socket.resume();
    const reply = await client.reply();
    assertSame(bodyOf(reply), bodyOf(whole), "the body");
    assertEquals((await client.rest()).length, 0);
    client.close();
  });
}

/** A multipart body's content without its boundaries, which differ. */
function bodyOf(reply: Reply): Buffer {
  const parts = partsOf(reply);
  return parts ? Buffer.concat(parts.map(({ body }) => body)) : reply.body;
}

/** What came of a response is the beginning of `whole`, and nothing came behind it. */
function assertPrefix(all: Buffer, whole: Reply, content: Buffer): void {
  const end = all.indexOf("\r\n\r\n") + 4;
  const body = all.subarray(end);
  if (whole.headers["transfer-encoding"]) { // Without the last chunk, what came counts for nothing.
    return assert(
      !all.subarray(-7).equals(Buffer.from("\r\n0\r\n\r\n")),
      "the end of a body that is not whole",
    );
  }
  assert(body.length < content.length, "the end of a file that is not there any more");
  const boundary = (head: string) => /boundary="?([^"\r]+)/.exec(head)?.[1] ?? "";
  const [from, to] = [boundary(whole.head), boundary(all.subarray(0, end).toString("latin1"))];
  const expected = Buffer.from(whole.body);
  if (from) {
    assertEquals(from.length, to.length);
    for (let at = 0; (at = expected.indexOf(from, at)) >= 0; at += to.length) {
      expected.write(to, at, "latin1");
    }
  }
  assertSame(body, expected.subarray(0, body.length), "what came");
}

each("sends what was promised of a file that grows once it was looked at", async (place) => {
  for (const size of place.sizes()) {
    const content = CONTENT.get(size)!;
    const { status, headers, body } = await place.get(`/${size}.bin`);
    assertEquals([status, headers["content-range"]], [200, undefined], `${size}`);
    // Bun.serve looks at the file itself.
    const length = place.kind.name === "Bun.serve" && size > 100_000 ? body.length : size;
    assert(length === size || length === size + 1);
    assertSame(body, Buffer.concat([content, Buffer.from("+")]).subarray(0, length), `${size}`);
    const part = await place.get(`/${size}.bin`, { Range: "bytes=5-8" });
    assertEquals(part.status, 206);
    assertSame(part.body, content.subarray(5, 9), "a part");
  }
}, {
  options: {
    headers(path) {
      fs.appendFileSync(path, "+");
      return {};
    },
  },
});

for (const fields of ["", "Range: bytes=5-\r\n"]) {
  const what = fields ? "a range of it is" : "it is";
  each(`ends early where a file becomes shorter before ${what} sent`, async (place) => {
    for (const size of place.sizes()) {
      const client = await Client.to(place.port);
      client.send(request(`/${size}.bin`, { fields: `Connection: close\r\n${fields}` }));
      const all = await client.rest();
      client.close();
      const [head, status] = /^HTTP\/1\.1 (\d+)[^]*?\r\n\r\n/.exec(all.toString("latin1"))!;
      if (Number(status) >= 400) continue;
      const body = all.subarray(head.length);
      const first = fields ? 5 : 0;
      assertEquals(status, fields ? "206" : "200");
      assertSame(body, CONTENT.get(size)!.subarray(first, first + body.length), `${size}`);
      assert(body.length <= size / 2, `${body.length} bytes of a file that has ${size / 2}`);
      const [, length] = /^content-length: (\d+)/im.exec(head)!;
      if (!fields && place.kind.name !== "Bun.serve") { // which looks at the file itself
        assertEquals([Number(length), body.length < Number(length)], [size, true], "a body that looks whole");
      }
      // A part that ends where the length says is all of the range that is named.
      if (fields && body.length === Number(length)) {
        assertStringIncludes(head, ` bytes 5-${4 + body.length}/`);
      }
    }
    assertEquals(place.server.errors.splice(0).filter((error) => !/became shorter/.test(String(error))), []);
  }, {
    options: {
      headers(path, { size }) {
        fs.truncateSync(path, size / 2);
        return {};
      },
    },
    skip: (kind) => kind === "Bun.serve" && fields !== "" && "Bun.serve asks the file itself how long it is",
  });
}

each("sends the old file where a new one takes its name on the way", async (place) => {
  const content = place.add(`${LARGE}.bin`, largeContent());
  const client = await Client.to(place.port);
  client.send(request(`/${LARGE}.bin`, { fields: "Connection: close\r\n" }));
  await client.begun();
  place.add("new.bin", "new");
  fs.renameSync(place.path("new.bin"), place.path(`${LARGE}.bin`));
  client.socket.resume();
  assertWhole(place.wellFormed(await client.reply()), content);
  client.close();
  assertEquals(String((await place.get(`/${LARGE}.bin`)).body), "new");
});

// Without a server, and beside one

async function inDirectory(body: (place: Place) => Promise<void>): Promise<void> {
  const place = new Place(KINDS[0]);
  try {
    await body(place);
    await until(() => place.held().length === 0, "the files to be closed");
  } finally {
    fs.rmSync(place.base, { recursive: true });
  }
}

test("serveDir and serveFile give a Response that can be read without a server", () =>
  inDirectory(async (place) => {
    for (const size of place.sizes()) {
      const content = CONTENT.get(size)!;
      const url = `http://test/${size}.bin`;
      const whole = await serveDir(new Request(url), { fsRoot: place.root, quiet: true });
      assertEquals([whole.status, whole.headers.get("accept-ranges")], [200, "bytes"]);
      assertSame(Buffer.from(await whole.arrayBuffer()), content, "the whole");
      const part = await serveFile(
        new Request(url, { headers: { Range: "bytes=3-7" } }),
        place.path(`${size}.bin`),
      );
      assertEquals([part.status, part.headers.get("content-range")], [206, `bytes 3-7/${size}`]);
      assertSame(Buffer.from(await part.arrayBuffer()), content.subarray(3, 8), "a part");
      const headers = { Range: "bytes=0-1,-2" };
      const parts = await serveFile(new Request(url, { headers }), place.path(`${size}.bin`));
      const body = Buffer.from(await parts.arrayBuffer());
      const [one, two, ...others] = parseMultipart(parts.headers.get("content-type")!, body);
      assertEquals([one.span, two.span, others], [[0, 1], [size - 2, size - 1], []]);
      assertSame(one.body, content.subarray(0, 2), "the first part");
      assertSame(two.body, content.subarray(-2), "the second part");
    }
  }));

test("serveDir keeps no file of a body that is cancelled, nor of one that nobody wants", () =>
  inDirectory(async (place) => {
    const large = place.add(`${LARGE}.bin`, largeContent());
    const options = { fsRoot: place.root, quiet: true };
    const response = await serveDir(new Request(`http://test/${LARGE}.bin`), options);
    const reader = response.body!.getReader();
    const { value } = await reader.read();
    assertSame(Buffer.from(value!), large.subarray(0, value!.length), "the beginning");
    await reader.cancel();
    await (await serveDir(new Request(`http://test/${LARGE}.bin`), options)).body!.cancel();
    const head = await serveDir(new Request(`http://test/${LARGE}.bin`, { method: "HEAD" }), options);
    assertEquals(head.body, null);
  }));

test("serveDir takes a root that is a symlink itself", () =>
  inDirectory(async (place) => {
    fs.symlinkSync("root", join(place.base, "link"));
    const fsRoot = join(place.base, "link");
    const response = await serveDir(new Request("http://test/10.bin"), { fsRoot, quiet: true });
    assertSame(Buffer.from(await response.arrayBuffer()), CONTENT.get(10)!, "by the link");
  }));

test("serveDir leaves what it does not have to fallthrough", () =>
  inDirectory(async (place) => {
    fs.symlinkSync("../secret.txt", place.path("out.txt"));
    const fallthrough = ({ method }: Request) =>
      Promise.resolve(new Response(`NEXT ${method}`, { status: 299 }));
    const options = { fsRoot: place.root, quiet: true, fallthrough };
    const asked: [string, string, number][] = [
      ["GET", "/10.bin", 200],
      ["GET", "/missing", 299],
      ["HEAD", "/missing", 299],
      ["GET", "/", 299],
      ["GET", "/out.txt", 299],
      ["POST", "/api", 299],
    ];
    for (const [method, target, status] of asked) {
      const response = await serveDir(new Request(`http://test${target}`, { method }), options);
      assertEquals(response.status, status, `${method} ${target}`);
      if (status === 299) assertEquals(await response.text(), `NEXT ${method}`);
      else await response.body?.cancel();
    }
    const failed = await serveDir(
      new Request("http://test/10.bin", { headers: { "If-Match": '"x"' } }),
      options,
    );
    assertEquals(failed.status, 412);
  }));

type Next = (error?: unknown) => void;

/** A node:http server of serveStatic with something behind it that says NEXT. */
async function withNext(
  body: (place: Place) => Promise<void>,
  options: Options & { fallthrough?: boolean } = {},
  change: (url: string) => { url: string; originalUrl?: string } = (url) => ({ url }),
): Promise<void> {
  await inDirectory(async (place) => {
    const handler = serveStatic(place.root, options);
    place.server = await startNode((incoming, response) => {
      Object.assign(incoming, change(incoming.url!));
      response.setHeader("X-Before", "1");
      const next: Next = (error) => response.end(error ? `ERROR ${error}` : "NEXT");
      handler(incoming, response, next);
    });
    try {
      await body(place);
      assertEquals(place.server.errors, []);
    } finally {
      await place.server.close();
    }
  });
}

test("serveStatic leaves what it does not have to the next", () =>
  withNext(async (place) => {
    fs.symlinkSync("../secret.txt", place.path("out.txt"));
    assertWhole(await place.get("/10.bin"), CONTENT.get(10)!);
    for (const target of ["/missing", "/api/users?x", "/", "/out.txt", "/10.bin/", "/.env"]) {
      assertEquals(String((await place.get(target)).body), "NEXT", target);
    }
    const posted = await ask(place.port, "/api", { method: "POST", fields: "Content-Length: 0\r\n" });
    assertEquals(String(posted.body), "NEXT");
    assertEquals((await place.get("/10.bin", { "If-Match": '"x"' })).status, 412);
    assertEquals((await place.get("/10.bin", { Range: "bytes=10-" })).status, 416);
  }));

test("serveStatic tells the next what is wrong where fallthrough is false", () =>
  withNext(async (place) => {
    for (const target of ["/missing", "/"]) {
      assert(String((await place.get(target)).body).startsWith("ERROR NotFoundError: Not Found"), target);
    }
    assertEquals(String((await place.get("/%")).body), "ERROR BadRequestError: Bad Request");
    assertEquals((await place.get("/10.bin/")).status, 301);
    assertEquals((await ask(place.port, "/10.bin", { method: "DELETE" })).status, 405);
  }, { fallthrough: false }));

test("serveStatic keeps the headers that others have set", () =>
  withNext(async (place) => {
    place.sizes();
    for (const target of ["/10.bin", `/${3 * MIB}.bin`]) {
      for (const fields of [{}, { Range: "bytes=0-1" }, { "If-None-Match": "*" }] as Fields[]) {
        assertEquals((await place.get(target, fields)).headers["x-before"], "1");
      }
    }
  }));

test("serveStatic redirects below the path where it is mounted", () =>
  withNext(
    async (place) => {
      fs.mkdirSync(place.path("dir"));
      assertWhole(await place.get("/mount/10.bin"), CONTENT.get(10)!);
      const { status, headers } = await place.get("/mount/dir?q");
      assertEquals([status, headers.location], [301, "dir/?q"]);
      assertEquals((await place.get("//mount/dir")).headers.location, "../../mount/dir/");
    },
    {},
    (url) => ({ url: url.replace(/^\/?\/mount/, ""), originalUrl: url }),
  ));

test("sendFile resolves when the file is sent, and can follow what others did", () =>
  inDirectory(async (place) => {
    const done: string[] = [];
    place.server = await startNode(async (incoming, response) => {
      response.setHeader("X-Before", "1");
      await sendFile(incoming, response, place.path(incoming.url!.slice(1)), { headers: ["X-After: 2"] });
      done.push(incoming.url!);
    });
    try {
      for (const size of place.sizes()) {
        const reply = await place.get(`/${size}.bin`);
        assertWhole(reply, CONTENT.get(size)!);
        assertEquals([reply.headers["x-before"], reply.headers["x-after"]], ["1", "2"]);
      }
      await until(() => done.length === SIZES.length, "sendFile to resolve");
      assertEquals(done, SIZES.map((size) => `/${size}.bin`));
      assertEquals(place.server.errors, []);
    } finally {
      await place.server.close();
    }
  }));
