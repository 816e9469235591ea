import { assertEquals } from "@std/assert";
import { quality } from "../../../http/rfc9110/quality.ts";
import { test } from "../../support/harness.ts";

const TABLE: readonly [field: string, value: string, wildcards: string[], number | undefined][] = [
  ["gzip", "gzip", [], 1],
  ["GZip", "gzip", [], 1],
  ["br, gzip", "gzip", [], 1],
  ["gzip;q=0.5", "gzip", [], 0.5],
  ["gzip ; q = 0.5", "gzip", [], 0.5],
  ["gzip;q=0", "gzip", ["*"], 0],
  ["gzip;q=0, *", "gzip", ["*"], 0],
  ["*;q=0.2", "gzip", ["*"], 0.2],
  ["br", "gzip", ["*"], undefined],
  ["", "gzip", ["*"], undefined],
  ["gzip;q=2", "gzip", [], 0],
  ["gzip;q=x", "gzip", [], 0],
  ["text/*;q=0.3, */*;q=0.1", "text/html", ["text/*", "*/*"], 0.3],
  ["*/*;q=0.1, text/*;q=0.3", "text/html", ["text/*", "*/*"], 0.3],
  ["text/html;level=1;q=0.4", "text/html", [], 0.4],
];

for (const [field, value, wildcards, expected] of TABLE) {
  test(`quality: ${value} by "${field}"`, () => assertEquals(quality(field, value, wildcards), expected));
}
