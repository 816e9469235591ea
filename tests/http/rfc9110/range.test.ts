import { assertEquals } from "@std/assert";
import { parseRange } from "../../../http/rfc9110/range.ts";
import { test } from "../../support/harness.ts";

type Expected = readonly (readonly [offset: number, count: number])[] | "416" | "ignored";

const many = (count: number) => Array.from({ length: count }, (_, i) => `${2 * i}-${2 * i}`).join(",");

const TABLE: readonly [field: string, size: number, expected: Expected][] = [
  ["bytes=0-0", 10, [[0, 1]]],
  ["bytes=5-", 10, [[5, 5]]],
  ["bytes=-3", 10, [[7, 3]]],
  ["bytes=5-1000", 10, [[5, 5]]],
  ["bytes=9-9", 10, [[9, 1]]],
  ["bytes=-100", 10, [[0, 10]]],
  ["bytes=0-999999999999999999999999", 10, [[0, 10]]],
  ["BYTES = 0-1", 10, [[0, 2]]],
  [" bytes=0-1 ", 10, [[0, 2]]],
  ["bytes=0-1,", 10, [[0, 2]]],
  ["bytes=,,0-1", 10, [[0, 2]]],
  ["bytes=0-1, 4-5", 10, [[0, 2], [4, 2]]],
  ["bytes=4-5,0-1", 10, [[4, 2], [0, 2]]],
  ["bytes=0-1,20-30", 10, [[0, 2]]],
  [`bytes=${many(16)}`, 100, Array.from({ length: 16 }, (_, i) => [2 * i, 1] as const)],
  // None of them can be satisfied.
  ["bytes=-0", 10, "416"],
  ["bytes=10-", 10, "416"],
  ["bytes=5-2", 10, "416"],
  ["bytes=999999999999999999999999-", 10, "416"],
  ["bytes=10-11,20-", 10, "416"],
  // Not a range of bytes, or not one that is answered as one.
  ["bytes=", 10, "ignored"],
  ["bytes=,", 10, "ignored"],
  ["bytes=2", 10, "ignored"],
  ["bytes=-", 10, "ignored"],
  ["bytes=--6", 10, "ignored"],
  ["bytes=0-1x", 10, "ignored"],
  ["bytes=0x0-1", 10, "ignored"],
  ["bytes=+0-1", 10, "ignored"],
  ["bytes=0 - 1", 10, "ignored"],
  ["bytes=0-1;4-5", 10, "ignored"],
  ["bytes=0-1,asdf", 10, "ignored"],
  ["items=0-4", 10, "ignored"],
  ["0-4", 10, "ignored"],
  ["asdf", 10, "ignored"],
  ["", 10, "ignored"],
  ["bytes=0-0", 0, "ignored"],
  ["bytes=-1", 0, "ignored"],
  ["bytes=0-9,0-0", 10, "ignored"], // more bytes together than the file has
  [`bytes=${many(17)}`, 100, "ignored"],
];

for (const [field, size, expected] of TABLE) {
  const shown = field.length > 40 ? `${field.slice(0, 40)}…` : field;
  test(`parseRange: "${shown}" of ${size} bytes`, () => {
    const ranges = parseRange(field, size);
    const actual = ranges === undefined
      ? "ignored"
      : ranges.length === 0
      ? "416"
      : ranges.map(({ offset, count }) => [offset, count]);
    assertEquals(actual as Expected, expected);
  });
}
