/**
 * Runs the suite on Deno and on Bun. Ends with the names of the tests that failed and one line for both runtimes:
 * `N passed, N failed`.
 *
 *     deno task test [--runtime deno|bun] [--filter TEXT] [--watch] [NAME]…
 *
 * `NAME`: part of a path below tests/; only these files. `--filter`: only tests whose names contain the text.
 * `--watch`: runs again after each change of a file, on one runtime (Deno, unless `--runtime` says bun).
 */
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { fromFileUrl, join } from "@std/path";
import { findBun } from "./support/find_bun.ts";

const root = fromFileUrl(new URL("..", import.meta.url));

const RUNTIMES = ["deno", "bun"] as const;
type Runtime = typeof RUNTIMES[number];

/** As the lines that are printed name them. */
const SHOWN = { deno: "Deno", bun: "Bun" } as const;

/** What came of a run: names, and of each failure the text of its error. */
interface Results {
  readonly passed: string[];
  readonly failed: string[];
  readonly skipped: string[];
  readonly errors: string[];
}

/** Lines printed of one error: a comparison of long texts fills pages. */
const ERROR_LINES = 15;

interface Options {
  readonly files: readonly string[];
  readonly filter?: string;
  readonly watch: boolean;
}

/** The test cases of a JUnit report, whose suites nest. */
function readReport(path: string): Results {
  const results: Results = { passed: [], failed: [], skipped: [], errors: [] };
  const xml = fs.existsSync(path) ? fs.readFileSync(path, "utf8") : "";
  for (
    const [, attributes, empty, content] of xml.matchAll(
      /<testcase\b([^>]*?)(\/)?>(?:((?:(?!<testcase\b)[^])*?)<\/testcase>)?/g,
    )
  ) {
    const name = unescapeXml(/\bname="([^"]*)"/.exec(attributes)?.[1] ?? "a test without a name");
    if (empty || !/<(failure|error|skipped)\b/.test(content ?? "")) results.passed.push(name);
    else if (/<skipped\b/.test(content)) results.skipped.push(name);
    else {
      results.failed.push(name);
      const error = /<(?:failure|error)\b[^>]*>([^]*?)<\/(?:failure|error)>/.exec(content)?.[1] ?? "";
      results.errors.push(unescapeXml(error).trim().split("\n").slice(0, ERROR_LINES).join("\n"));
    }
  }
  return results;
}

function unescapeXml(text: string): string {
  const characters: Record<string, string> = {
    lt: "<",
    gt: ">",
    quot: '"',
    apos: "'",
    "#39": "'",
    "#10": "\n",
    amp: "&",
  };
  return text.replace(/&(lt|gt|quot|apos|#39|#10|amp);/g, (_, name) => characters[name]);
}

function run(command: string, args: string[]): Promise<number | null> {
  const child = spawn(command, args, { cwd: root, stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
}

/** The command of a run, and what it makes of the options. */
function commandOf(runtime: Runtime, report: string, { files, filter, watch }: Options): [string, string[]] {
  if (runtime === "deno") {
    const args = ["test", "-A", "--no-check", "--node-modules-dir=none"];
    args.push(watch ? "--watch" : `--junit-path=${report}`);
    if (filter !== undefined) args.push(`--filter=${filter}`);
    return [process.execPath, [...args, ...files]];
  }
  const args = watch ? ["--watch", "test"] : ["test", "--reporter=junit", `--reporter-outfile=${report}`];
  if (filter !== undefined) args.push("-t", escapeRegExp(filter));
  return [findBun(), [...args, ...files]];
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runtime: { type: "string" },
    filter: { type: "string" },
    watch: { type: "boolean", default: false },
  },
});
const { runtime, filter, watch } = values;
if (runtime !== undefined && !RUNTIMES.includes(runtime as Runtime)) {
  throw new TypeError(`--runtime takes deno or bun, not ${runtime}`);
}
const runtimes = runtime === undefined ? watch ? RUNTIMES.slice(0, 1) : RUNTIMES : [runtime as Runtime];
const files = fs.readdirSync(join(root, "tests"), { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".test.ts"))
  .filter((path) => positionals.length === 0 || positionals.some((part) => path.includes(part)))
  .map((path) => `./tests/${path}`)
  .sort();
if (files.length === 0) throw new TypeError(`no file of tests has ${positionals.join(" or ")} in its path`);

const reports = fs.mkdtempSync(join(tmpdir(), "sendfile-reports-"));
const sum = { passed: 0, failed: 0, skipped: 0 };
const failed: string[] = [];
const errors: string[] = [];
for (const runtime of runtimes) {
  const name = SHOWN[runtime];
  const report = join(reports, `${runtime}.xml`);
  console.log(`\n== ${name}`);
  const code = await run(...commandOf(runtime, report, { files, filter, watch }));
  const results = readReport(report);
  // A runtime that fails outside of any test (or runs none) has failed.
  const isBroken = code !== 0 && results.failed.length === 0;
  if (isBroken) results.failed.push(`the run itself, which ended with code ${code}`);
  else if (results.passed.length === 0 && filter === undefined) results.failed.push("no test ran");
  for (const test of results.skipped) console.log(`${name}: skipped: ${test}`);
  const counts = [results.passed.length, results.failed.length, results.skipped.length];
  console.log(`${name}: ${counts[0]} passed, ${counts[1]} failed, ${counts[2]} skipped`);
  failed.push(...results.failed.map((test) => `${name}: failed: ${test}`));
  errors.push(...results.errors.map((error, i) => `${name}: ${results.failed[i]}\n${error}\n`));
  sum.passed += counts[0];
  sum.failed += counts[1];
  sum.skipped += counts[2];
}
fs.rmSync(reports, { recursive: true });
if (failed.length > 0) console.log(`\n${[...errors, ...failed].join("\n")}`);
console.log(`${sum.passed} passed, ${sum.failed} failed${sum.skipped > 0 ? `, ${sum.skipped} skipped` : ""}`);
process.exitCode = sum.failed > 0 ? 1 : 0;
