import { assertEquals } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import { libc, replaceLibc } from "../../ffi/load.ts";
import { descriptorsLeft } from "../../server/descriptors_left.ts";
import { faulty } from "../support/faults.ts";
import { isBun, test } from "../support/harness.ts";

const found = libc();
const uncounted = typeof found === "string"
  ? found
  : found.countDescriptors() === undefined
  ? "the system does not count descriptors"
  : undefined;

test("descriptorsLeft takes what is opened from the limit, and gives back what is closed", () => {
  const before = descriptorsLeft(0);
  const opened = Array.from({ length: 10 }, () => fs.openSync(process.execPath, "r"));
  assertEquals(descriptorsLeft(0), before - 10);
  opened.forEach((fd) => fs.closeSync(fd));
  assertEquals(descriptorsLeft(0), before);
}, { skip: uncounted });

test("descriptorsLeft goes by the estimate where the system does not count descriptors", () => {
  const c = faulty({});
  c.maxDescriptors = () => 1000;
  c.countDescriptors = () => undefined;
  replaceLibc(c);
  try {
    assertEquals(descriptorsLeft(0) - descriptorsLeft(10), 10);
    assertEquals(descriptorsLeft(1000) < 0, true);
  } finally {
    replaceLibc(undefined);
  }
}, { skip: uncounted });

test("descriptorsLeft without FFI: Bun reads the limit, Deno does not know it", () => {
  replaceLibc("turned off, the test says");
  try {
    assertEquals(Number.isFinite(descriptorsLeft(0)), isBun);
  } finally {
    replaceLibc(undefined);
  }
}, { skip: uncounted });
