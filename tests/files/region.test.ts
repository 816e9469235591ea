/** SendfileRegion: a part of a file. */
import { assertEquals, assertThrows } from "@std/assert";
import * as fs from "node:fs";
import { pathToFileURL } from "node:url";
import { SendfileNotAvailableError, SendfileRegion } from "../../mod.ts";
import { DATA, folder, testFile } from "../support/data.ts";
import { test } from "../support/harness.ts";

test("the length of a SendfileRegion of a directory is an error that says so", () => {
  const dir = folder();
  for (const path of [dir, pathToFileURL(dir)]) {
    const error = assertThrows(() => new SendfileRegion(path).length, SendfileNotAvailableError);
    assertEquals(error.message, `${dir} is a directory`);
  }
  fs.rmSync(dir, { recursive: true });
});

test("SendfileRegion knows its length, and refuses invalid ranges", () => {
  using file = testFile(DATA);
  assertEquals(new SendfileRegion(file.path).length, DATA.length);
  assertEquals(new SendfileRegion(file.path, 100).length, DATA.length - 100);
  assertEquals(new SendfileRegion(file.path, 100, 7).length, 7);
  assertEquals(new SendfileRegion(file.path, DATA.length - 3, 7).length, 3);
  assertEquals(new SendfileRegion(pathToFileURL(file.path), DATA.length + 3).length, 0);
  assertThrows(() => new SendfileRegion(file.path, -1), RangeError);
  assertThrows(() => new SendfileRegion(file.path, 0, 0), RangeError);
  assertThrows(() => new SendfileRegion(file.path, 0.5), TypeError);
  assertThrows(() => new SendfileRegion(5 as unknown as string), TypeError);
});
