/** The tables of docs/platforms.md, between two markers. */
import * as fs from "node:fs";
import type { Column } from "./cells.ts";
import { type Runtime, SHOWN, titleOf, type Version } from "./versions.ts";

/** A version and what came of it. */
export interface Tried {
  readonly version: Version;
  readonly column: Column;
  /** What this package rests on. */
  readonly facts: Column;
}

/** One table of `which` for each runtime that has it, then the notes that its cells refer to. */
export function tablesOf(tried: readonly Tried[], which: "column" | "facts"): string {
  const notes: string[] = [];
  const shown = tried.filter((one) => one[which].size > 0)
    .map((one) => ({ version: one.version, column: one[which] }));
  const tables = (["deno", "bun", "node"] satisfies Runtime[])
    .map((runtime) => shown.filter(({ version }) => version.runtime === runtime))
    .filter((columns) => columns.length > 0)
    .map((columns) => tableOf(columns, notes));
  const list = notes.map((note, index) => `${index + 1}. ${note}`);
  return [...tables, list.join("\n")].filter(Boolean).join("\n\n");
}

function tableOf(tried: readonly Omit<Tried, "facts">[], notes: string[]): string {
  const head = [SHOWN[tried[0].version.runtime], ...tried.map(({ version }) => titleOf(version))];
  const names = [...new Set(tried.flatMap(({ column }) => [...column.keys()]))];
  const rows = names.map((name) => [
    name,
    ...tried.map(({ column }) => {
      const { text, note } = column.get(name) ?? { text: "not tried" };
      return note === undefined ? text : `${text} (${numberOf(note, notes)})`;
    }),
  ]);
  return alignedTable([head, ...rows]);
}

/** The number of a note, which is added if it is new. */
function numberOf(note: string, notes: string[]): number {
  const index = notes.indexOf(note);
  return index < 0 ? notes.push(note) : index + 1;
}

/** As `deno fmt` has tables. */
export function alignedTable([head, ...rows]: readonly (readonly string[])[]): string {
  const widths = head.map((_, column) => Math.max(3, ...[head, ...rows].map((row) => row[column].length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}

/** Puts `text` between the markers `<!-- name -->` and `<!-- /name -->` of a file. */
export function putBetween(path: string, name: string, text: string): void {
  const old = fs.readFileSync(path, "utf8");
  const [start, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [old.indexOf(start), old.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} lacks the markers ${start} and ${end}`);
  fs.writeFileSync(path, `${old.slice(0, from + start.length)}\n\n${text}\n\n${old.slice(to)}`);
}
