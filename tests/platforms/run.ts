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
import { release } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { fromFileUrl } from "@std/path";
import { type Column, columnOf, FAILED, machine } from "./cells.ts";
import { makeProject } from "./package.ts";
import { putBetween, tablesOf, type Tried } from "./table.ts";
import { newest, SHOWN, type Version, VERSIONS } from "./versions.ts";

const DOCUMENT = fromFileUrl(new URL("../../docs/platforms.md", import.meta.url));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { newest: { type: "boolean", default: false } },
});

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

function nameOf({ runtime, version }: Version): string {
  return `${runtime}@${version}`;
}

function print({ runtime, version }: Version, column: Column): void {
  console.log(`\n${SHOWN[runtime]} ${version}`);
  for (const [row, { text, note }] of column) {
    console.log(`  ${row.padEnd(34)} ${text}${note === undefined ? "" : `: ${note}`}`);
  }
}

const project = await makeProject();
const tried: Tried[] = [];
for (const version of versions()) {
  const column = await columnOf(project, version);
  print(version, column);
  tried.push({ version, column });
}
const failed = tried.flatMap(({ version, column }) =>
  [...column].filter(([, { text }]) => text === FAILED).map(([row]) => `${nameOf(version)}: ${row}`)
);
const text = `Tried on ${machine(release())}:\n\n${tablesOf(tried)}`;
if (positionals.length === 0) putBetween(DOCUMENT, "deno task platforms", text);
else console.log(`\n${text}`);
console.log(`\n${tried.length} versions tried, ${failed.length} cells failed\n${failed.join("\n")}`);
process.exit(failed.length > 0 ? 1 : 0);
