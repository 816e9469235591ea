/**
 * Tries the package on versions of Deno, Bun and Node.js and writes what came of it into docs/platforms.md. Programs
 * come from npm into a cache below `~/.cache`; what runs, runs at low priority, one after the other. Ends with code 1
 * where something has failed.
 *
 *     deno task platforms [--newest] [VERSION]…
 *
 * `VERSION`: `deno`, `bun@1.3.14`, …: only these, and the table is printed, not written. `--newest`: also what is the
 * newest on npm, beyond the versions that are listed.
 */
import * as fs from "node:fs";
import { release } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { fromFileUrl } from "@std/path";
import { type Column, columnOf, factsOf, FAILED, machine } from "./cells.ts";
import { EXPECTED } from "./facts.ts";
import { makeProject } from "./package.ts";
import { putBetween, tablesOf, type Tried } from "./table.ts";
import { newest, SHOWN, titleOf, type Version, VERSIONS } from "./versions.ts";

const DOCUMENT = fromFileUrl(new URL("../../docs/platforms.md", import.meta.url));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { newest: { type: "boolean", default: false } },
});

/** The versions that package.json names. */
const PINNED: Record<string, string> = JSON.parse(
  fs.readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
).devDependencies;

/** The versions that are asked for. */
function versions(): readonly Version[] {
  const known = [...VERSIONS];
  if (values.newest) {
    for (const runtime of ["deno", "bun"] as const) {
      const version = newest(runtime);
      if (!known.some((other) => nameOf(other) === nameOf(version))) known.push(version);
    }
  }
  if (positionals.length === 0) return known;
  const asked = known.filter((version) => positionals.some((name) => nameOf(version).startsWith(name)));
  if (asked.length === 0) throw new TypeError(`no version is ${positionals.join(" or ")}`);
  return asked;
}

function nameOf(version: Version): string {
  return `${version.runtime}@${titleOf(version)}`;
}

/** Where a version that is as new as the one of package.json, or newer, is not what this package takes it to be. */
function changesOf({ version, facts }: Tried): string[] {
  const { runtime, machine } = version;
  if (runtime === "node" || machine !== undefined) return [];
  const known = VERSIONS.filter((other) => other.runtime === runtime);
  if (known.some((older) => older.version === version.version && older.version !== PINNED[runtime])) {
    return [];
  }
  return Object.entries(EXPECTED[runtime])
    .filter(([name, text]) => facts.get(name)?.text !== text)
    .map(([name, text]) => `${nameOf(version)}: ${name}: ${facts.get(name)?.text}, not ${text}`);
}

function print(version: Version, column: Column): void {
  console.log(`\n${SHOWN[version.runtime]} ${titleOf(version)}`);
  for (const [row, { text, note }] of column) {
    console.log(`  ${row.padEnd(34)} ${text}${note === undefined ? "" : `: ${note}`}`);
  }
}

const project = await makeProject();
const tried: Tried[] = [];
for (const version of versions()) {
  const column = await columnOf(project, version);
  const facts = await factsOf(project, version);
  print(version, new Map([...column, ...facts]));
  tried.push({ version, column, facts });
}
const failed = tried.flatMap(({ version, column }) =>
  [...column].filter(([, { text }]) => text === FAILED).map(([row]) => `${nameOf(version)}: ${row}`)
);
failed.push(...tried.flatMap(changesOf));
const text = `Tried on ${machine(release())}:\n\n${tablesOf(tried, "column")}`;
const facts = tablesOf(tried, "facts");
if (positionals.length === 0) {
  putBetween(DOCUMENT, "deno task platforms", text);
  putBetween(DOCUMENT, "deno task platforms: facts", facts);
} else console.log(`\n${text}\n\n${facts}`);
console.log(`\n${tried.length} versions tried, ${failed.length} cells failed\n${failed.join("\n")}`);
process.exit(failed.length > 0 ? 1 : 0);
