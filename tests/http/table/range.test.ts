/** Range on every kind of server: one part, several, 416, or the whole file where the field is ignored. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { parseMultipart, type Span } from "../../support/http_client.ts";
import { MIB } from "../../support/site.ts";
import { assertPartial, assertUnsatisfiable, assertWhole } from "./assert_reply.ts";
import { CONTENT, each, type Place, SIZES } from "./place.ts";

type RangeRow = [range: (size: number) => string, spans: (last: number) => Span[]];

const DIGITS = "9".repeat(24);

/** Fields with one range, and the first and last byte that it selects. */
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

/** Lists of ranges, and the parts that they select. */
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
