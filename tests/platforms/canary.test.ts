/**
 * Fails where a new version of a runtime has changed something that this package rests on and no runtime promises.
 * `deno task platforms --newest` asks versions that are not installed here.
 */
import { assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { join } from "@std/path";
import { runtime, test } from "../support/harness.ts";
import { noProc } from "../support/site.ts";
import { askFacts, EXPECTED } from "./facts.ts";
import { VERSIONS } from "./versions.ts";

test("canary: this version is as this package takes it to be", async () => {
  const facts = await askFacts();
  const inOrder = (facts: Record<string, string>) => Object.entries(facts).sort();
  assertEquals(inOrder(facts), inOrder(EXPECTED[runtime]));
}, { skip: noProc });

test("canary: the newest versions that are tried are those of package.json", () => {
  const text = fs.readFileSync(join(import.meta.dirname!, "../../package.json"), "utf8");
  const { devDependencies } = JSON.parse(text);
  for (const runtime of ["deno", "bun"]) {
    const last = VERSIONS.filter((version) => version.runtime === runtime).at(-1);
    assertEquals(last?.version, devDependencies[runtime]);
  }
});
