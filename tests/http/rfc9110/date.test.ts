import { assertEquals } from "@std/assert";
import { httpDate, parseHttpDate } from "../../../http/rfc9110/date.ts";
import { test } from "../../support/harness.ts";

const SECONDS = 784111777;

const TABLE: readonly [text: string, expected: number | undefined][] = [
  ["Sun, 06 Nov 1994 08:49:37 GMT", SECONDS],
  ["Sunday, 06-Nov-94 08:49:37 GMT", SECONDS],
  ["Sun Nov  6 08:49:37 1994", SECONDS],
  ["Thu, 29 Feb 2024 00:00:00 GMT", 1709164800],
  ["Sat, 31 Dec 2016 23:59:60 GMT", 1483228800], // a leap second
  ["Thu, 01 Jan 1970 00:00:00 GMT", 0],
  ["Wed, 29 Feb 2023 00:00:00 GMT", undefined],
  ["Sun, 31 Feb 2024 00:00:00 GMT", undefined],
  ["Sun, 06 Nov 1994 24:00:00 GMT", undefined],
  ["Sun, 06 Nov 1994 08:60:00 GMT", undefined],
  ["Sun, 6 Nov 1994 08:49:37 GMT", undefined],
  ["Sun, 06 Nov 1994 08:49:37 UTC", undefined],
  ["Sun, 06 Nov 1994 08:49:37 +0100", undefined],
  ["sun, 06 nov 1994 08:49:37 gmt", undefined],
  ["1994-11-06T08:49:37Z", undefined],
  ["784111777", undefined],
  ["", undefined],
];

for (const [text, expected] of TABLE) {
  test(`parseHttpDate: "${text}"`, () => assertEquals(parseHttpDate(text), expected));
}

test("parseHttpDate: two digits of a year that would be more than 50 years ahead are of the past", () => {
  const now = new Date().getUTCFullYear();
  const yearOf = (digits: number) => {
    const text = `Sunday, 06-Nov-${String(digits).padStart(2, "0")} 08:49:37 GMT`;
    return new Date(parseHttpDate(text)! * 1000).getUTCFullYear();
  };
  assertEquals(yearOf((now + 50) % 100), now + 50);
  assertEquals(yearOf((now + 51) % 100), now - 49);
});

test("httpDate: parseHttpDate reads back what it writes", () => {
  for (let seconds = 0; seconds < 2 ** 32; seconds += 86_413_579) {
    assertEquals(parseHttpDate(httpDate(seconds)), seconds);
  }
});
