/** That no case of CPython's was left out. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import { test } from "../../support/harness.ts";

/** Cases that have no counterpart here, and why. */
const without: Record<string, string> = {
  "CP-038": "no runtime here has files in text mode",
  "CP-051": "a runtime's sockets are always non-blocking; sendfileSync waits for them with poll(2)",
  "CP-059": "offset -1 is a RangeError before any call (CP-043); the port below takes only checked numbers",
  "CP-064": "32-bit BSD: the header is written by send(2), there is no iovec to overflow",
  "CP-065": "32-bit BSD: as CP-064",
  "CP-066": "SF_NODISKIO is not offered",
  "CP-073": "a descriptor that fstat refuses is closed: EBADF (CP-055)",
  "CP-076": "the size asked of a call is no argument here",
  "CP-079": "Windows' TransmitFile; the same refusals as CP-024 to CP-026",
};

/** The cases that a call in one of the files beside this registers a test for. */
function portedCases(): Set<string> {
  const here = import.meta.dirname!;
  const files = fs.readdirSync(here).filter((name) => name.endsWith(".test.ts"));
  const texts = files.map((name) => fs.readFileSync(join(here, name), "utf8"));
  const calls = texts.flatMap((text) => [...text.matchAll(/^ *(?:both|one|tenMiB)\(\s*"(CP-[^"]+)"/gm)]);
  return new Set(calls.flatMap(([, ids]) => ids.split(" ")));
}

test("every line of CPython's suite is ported, or has its reason", () => {
  const ported = portedCases();
  const missing: string[] = [];
  for (let i = 1; i <= 80; i++) {
    const id = `CP-${String(i).padStart(3, "0")}`;
    if (ported.has(id) === id in without) missing.push(id);
  }
  assertEquals(missing, []);
});
