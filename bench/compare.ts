/**
 * Compares two results of a benchmark, before and after a change:
 *
 *   deno task bench:compare BEFORE.json AFTER.json [BASE]
 *
 * For each server of each cell it prints CPU seconds per GB before and after, and the ratio of requests per second to
 * BASE (nginx or C by default); other work on the machine disturbs the ratio less than the requests per second. "CPU"
 * is after / before.
 */
import { median, printRow } from "./numbers.ts";
import { type Cell, costsOf, type Figures, ratiosOf } from "./report.ts";

interface Report {
  readonly date: string;
  readonly cells: readonly Cell[];
}

const [before, after] = Deno.args.slice(0, 2).map((path): Report => JSON.parse(Deno.readTextFileSync(path)));
if (!after) throw new TypeError("usage: bench:compare BEFORE.json AFTER.json [BASE]");
const wanted = Deno.args[2];

console.log(`${before.date} and ${after.date}`);
for (const cell of after.cells) {
  const old = before.cells.find((other) => nameOf(other) === nameOf(cell));
  if (old) printCell(old, cell);
}

function nameOf({ label, link, congestion }: Cell): string {
  return `${label}, ${link}, ${congestion}`;
}

function printCell(old: Cell, cell: Cell): void {
  const base = wanted ?? ["nginx", "C"].find((name) => name in cell.servers && name in old.servers);
  console.log(`\n${nameOf(cell)}`);
  printRow(["", "s/GB before", "s/GB after", "CPU", `/ ${base}`, "after", "noise"]);
  for (const [name, figures] of Object.entries(cell.servers)) {
    const earlier = old.servers[name];
    if (!earlier) continue;
    const [was, is] = [costOf(earlier), costOf(figures)];
    const ratio = ({ servers }: Cell, { requestsPerSecond }: Figures) =>
      base !== undefined && servers[base]
        ? median(ratiosOf(requestsPerSecond, servers[base].requestsPerSecond)).toFixed(2)
        : "-";
    const noise = `${Math.round(Math.max(old.otherWork, cell.otherWork) * 100)} %`;
    printRow([
      name,
      was.toFixed(3),
      is.toFixed(3),
      (is / was).toFixed(2),
      ratio(old, earlier),
      ratio(cell, figures),
      noise,
    ]);
  }
}

function costOf(figures: Figures): number {
  return median(costsOf(figures));
}
