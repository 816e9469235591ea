import { assertEquals } from "@std/assert";
import { multipart } from "../../../http/rfc9110/multipart.ts";
import { test } from "../../support/harness.ts";

test("multipart: heads, trailer and length as RFC 9110, 14.6 has them", () => {
  const ranges = [{ offset: 0, count: 5 }, { offset: 7, count: 1 }];
  const { boundary, parts, trailer, length } = multipart(ranges, "text/plain", 10);
  const body = parts.map(({ header, offset, count }) => header + "0123456789".slice(offset, offset + count));
  const expected = [
    `--${boundary}`,
    "Content-Type: text/plain",
    "Content-Range: bytes 0-4/10",
    "",
    "01234",
    `--${boundary}`,
    "Content-Type: text/plain",
    "Content-Range: bytes 7-7/10",
    "",
    "7",
    `--${boundary}--`,
    "",
  ].join("\r\n");
  assertEquals(body.join("") + trailer, expected);
  assertEquals(length, expected.length);
});

test("multipart: each body has a boundary of its own", () => {
  const boundaries = Array.from({ length: 100 }, () => multipart([], "text/plain", 10).boundary);
  assertEquals(new Set(boundaries).size, 100);
});
