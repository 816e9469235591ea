import { assertEquals } from "@std/assert";
import { acceptedEncodings, ENCODINGS } from "../../../http/rfc9110/content_coding.ts";
import { test } from "../../support/harness.ts";

const TABLE: readonly [field: string | undefined, expected: string[]][] = [
  [undefined, []],
  ["", []],
  ["gzip", ["gzip"]],
  ["x-gzip", ["gzip"]],
  ["gzip, br", ["br", "gzip"]],
  ["gzip, br, zstd", ["br", "zstd", "gzip"]],
  ["gzip, br;q=0.5", ["gzip", "br"]],
  ["br;q=0, gzip", ["gzip"]],
  ["*", ["br", "zstd", "gzip"]],
  ["*;q=0", []],
  ["*, br;q=0", ["zstd", "gzip"]],
  ["identity", []],
  ["identity, gzip;q=0.5", []],
  ["identity;q=0.5, gzip", ["gzip"]],
  ["deflate", []],
];

for (const [field, expected] of TABLE) {
  test(`acceptedEncodings: "${field}"`, () => {
    assertEquals(acceptedEncodings(field, ENCODINGS).map(({ name }) => name), expected);
  });
}
