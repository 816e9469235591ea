/**
 * `deno task bench:raw`: raw socket servers on Deno and Bun that use `sendfile()` with a header, beside the
 * same server in C (server.c), loaded by drain.c. Servers on core 0, the client on core 1.
 *
 *   --seconds 1.5        length of one run
 *   --rounds 3           runs of each server for each row
 *   --sizes 4K,64K,1M,100M
 *   --connections 1,8,64
 *   --only deno          one runtime, and C
 *   --bare               also servers with the bare calls, which show what the runtimes themselves cost
 *
 * The table shows medians; harness.ts says how they are measured.
 */
import { parseArgs } from "node:util";
import * as harness from "./harness.ts";
import { type File, KIB, median, type Place, positive, printRow, rate, type Server } from "./harness.ts";
import { head } from "./served.ts";

/** Runtimes in `--only` and in the table. */
const RUNTIMES = ["Deno", "Bun"] as const;
const ALL = ["Deno", "Bun", "bare Deno", "bare Bun"] as const;

/** The ratio to C that is to be reached. */
const goal = ({ body }: File): number => body.length >= 64 * KIB ? 0.9 : 0.7;

const { values: flags } = parseArgs({
  options: {
    seconds: { type: "string", default: "1.5" },
    rounds: { type: "string", default: "3" },
    sizes: { type: "string", default: "4K,64K,1M,100M" },
    connections: { type: "string", default: "1,8,64" },
    only: { type: "string" },
    bare: { type: "boolean", default: false },
  },
});
const seconds = positive("seconds", flags.seconds);
const rounds = positive("rounds", flags.rounds);
const sizes = flags.sizes.split(",").map(harness.parseSize);
const connections = flags.connections.split(",").map((text) => positive("connections", text));
const only = flags.only?.toLowerCase();
const runtimes = (flags.bare ? ALL : RUNTIMES).filter((name) =>
  only === undefined || name.toLowerCase().endsWith(only)
);
if (runtimes.length === 0) throw new TypeError(`--only takes deno or bun, not ${flags.only}`);

await harness.runBenchmark("raw", bench);

async function bench(place: Place): Promise<void> {
  await Promise.all(["server", "drain"].map((name) => harness.compile(place, name)));
  const files = sizes.map((size) => harness.makeFile(place, size));
  const servers = await startAll(place, files.map((file) => file.path));
  for (const server of servers) {
    for (const file of files) await harness.check(server, file, head(file.body.length));
  }
  console.log(
    `files on ${place.medium}, ${rounds} rounds of ${seconds} s; ` +
      "every server gave every response right, byte for byte\n",
  );
  printRow(["size", "connections", "C req/s", "C GB/s", ...runtimes.map((name) => `${name} / C`)]);
  const misses: string[] = [];
  for (const file of files) {
    for (const count of connections) misses.push(...await measure(place, servers, file, count));
  }
  console.log(
    "\ngoals: 0.9 of C from 64 KiB up, 0.7 below: " + (misses.length === 0 ? "reached" : "missed at"),
  );
  for (const miss of misses) console.log(`  ${miss}`);
}

/** Starts C, which comes first, and the others. */
async function startAll({ programs }: Place, paths: string[]): Promise<Server[]> {
  const servers = [await harness.start("C", [`${programs}/server`, ...paths])];
  for (const name of runtimes) {
    const isDeno = name.endsWith("Deno");
    const script = harness.local(isDeno ? "raw_deno.ts" : "raw_bun.ts");
    const command = isDeno ? [Deno.execPath(), "run", "-A"] : [harness.bun()];
    const env = name.startsWith("bare") ? { BENCH_BARE: "1" } : {};
    servers.push(await harness.start(name, [...command, script, ...paths], env));
  }
  return servers;
}

/** Measures and prints one row; what has missed its goal. */
async function measure(place: Place, servers: Server[], file: File, count: number): Promise<string[]> {
  const load = (server: Server) => harness.drain(place, server, file, count, seconds);
  const measured = await harness.measureRounds(servers, rounds, load);
  const rates = measured.map(({ runs }) => runs.map((run, i) => rate(servers[i], file, run)));
  const c = median(rates.map(([c]) => c));
  const ratios = runtimes.map((_, i) => median(rates.map((round) => round[i + 1] / round[0])));
  const label = harness.shownSize(file);
  printRow([
    label,
    String(count),
    c.toFixed(c < 1000 ? 1 : 0),
    (c * servers[0].lengths.get(file)! / 1e9).toFixed(2),
    ...ratios.map((ratio) => ratio.toFixed(2)),
  ]);
  harness.printDoubts(measured);
  return runtimes.flatMap((name, i) =>
    !name.startsWith("bare") && ratios[i] < goal(file)
      ? [`${label} x ${count}: ${name} ${ratios[i].toFixed(3)}, not ${goal(file)}`]
      : []
  );
}
