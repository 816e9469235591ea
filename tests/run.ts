/**
 * Runs the suite on Deno and on Bun, and ends with one line for both: `N passed, N failed`. Names of tests given as
 * arguments (parts of file names) limit it to those files.
 */
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { fromFileUrl, join } from "@std/path";
import { findBun } from "./find_bun.ts";

const root = fromFileUrl(new URL("..", import.meta.url));

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** Adds up a JUnit report, whose suites nest. */
function totals(report: string, name: string, code: number | null): Totals {
  const result = { passed: 0, failed: 0, skipped: 0 };
  if (!fs.existsSync(report)) return { ...result, failed: 1 };
  const xml = fs.readFileSync(report, "utf8");
  for (
    const [, attributes, empty, content] of xml.matchAll(
      /<testcase\b([^>]*?)(\/)?>(?:((?:(?!<testcase\b)[^])*?)<\/testcase>)?/g,
    )
  ) {
    if (empty || !/<(failure|error|skipped)\b/.test(content ?? "")) result.passed++;
    else if (/<skipped\b/.test(content)) {
      result.skipped++;
      console.log(`${name}: skipped: ${/name="([^"]*)"/.exec(attributes)?.[1]}`);
    } else result.failed++;
  }
  // A runtime that fails outside of any test (or runs none) has failed.
  if (result.passed === 0 || (code !== 0 && result.failed === 0)) result.failed++;
  return result;
}

function run(command: string, args: string[]): Promise<number | null> {
  const child = spawn(command, args, { cwd: root, stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
}

const wanted = process.argv.slice(2);
const files = fs.readdirSync(join(root, "tests"))
  .filter((name) =>
    name.endsWith(".test.ts") && (wanted.length === 0 || wanted.some((part) => name.includes(part)))
  )
  .map((name) => `./tests/${name}`);
const reports = fs.mkdtempSync(join(tmpdir(), "sendfile-reports-"));
const sum: Totals = { passed: 0, failed: 0, skipped: 0 };
const runs: [string, string, string[]][] = [
  ["Deno", process.execPath, [
    "test",
    "-A",
    "--no-check",
    "--node-modules-dir=none",
    `--junit-path=${reports}/Deno.xml`,
    ...files,
  ]],
  ["Bun", findBun(), ["test", "--reporter=junit", `--reporter-outfile=${reports}/Bun.xml`, ...files]],
];
for (const [name, command, args] of runs) {
  console.log(`\n== ${name}`);
  const code = await run(command, args);
  const { passed, failed, skipped } = totals(join(reports, `${name}.xml`), name, code);
  console.log(`${name}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  sum.passed += passed;
  sum.failed += failed;
  sum.skipped += skipped;
}
fs.rmSync(reports, { recursive: true });
console.log(`${sum.passed} passed, ${sum.failed} failed${sum.skipped > 0 ? `, ${sum.skipped} skipped` : ""}`);
process.exitCode = sum.failed > 0 ? 1 : 0;
