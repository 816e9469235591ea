/** The table of examples/README.md is about what is there. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import { COMMANDS, EXAMPLES } from "../support/example.ts";
import { test } from "../support/harness.ts";

const names = fs.readdirSync(EXAMPLES).filter((name) => name.endsWith(".ts"))
  .map((name) => name.slice(0, -".ts".length)).sort();

test("examples/README.md has a command for each example", () => {
  assertEquals([...COMMANDS.keys()], names);
});

test("each example begins with its command, as examples/README.md has it", () => {
  for (const name of names) {
    const [line] = fs.readFileSync(join(EXAMPLES, `${name}.ts`), "utf8").split("\n");
    const [, command] = /: ((?:deno run -A|bun) .*?)(?:, then: .*)?$/.exec(line) ?? [];
    assertEquals(command, COMMANDS.get(name), name);
  }
});

test("each example is run by a test", () => {
  const tests = fs.readdirSync(import.meta.dirname!)
    .map((name) => fs.readFileSync(join(import.meta.dirname!, name), "utf8")).join();
  const isRun = (name: string) =>
    new RegExp(`\\["${name}",|new Example\\("${name}"|^  ${name}: BY_`, "m").test(tests);
  assertEquals(names.filter((name) => !isRun(name)), []);
});
