/**
 * `deno task bench:http`: the HTTP servers of this package beside nginx, what Deno and Bun have themselves, and
 * asyncio, all on one directory, loaded by drain.c. Servers on core 0, the client on core 1.
 *
 *   --seconds 1.5        length of one run
 *   --rounds 3           runs of each server for each size
 *   --sizes 4K,64K,1M,100M
 *   --connections 16
 *   --only NAME[,NAME]   these servers, and nginx; the names are those that it prints
 *
 * The tables show medians; harness.ts says how they are measured. "CPU s/GB" is what the server's processes took,
 * user and system; "MB now" what they hold in memory after the last run of a size, "MB peak" the most they held
 * during that size. A ratio is the median of the rounds' ratios.
 */
import { parseArgs } from "node:util";
import * as harness from "./harness.ts";
import { type Drained, type File, KIB, MIB, type Place, type Server } from "./harness.ts";
import { median, positive, printRow, processes, rate } from "./harness.ts";

/** Drain's warm-up and the time to start it, in milliseconds: from then on the server's CPU time is counted. */
const WARM_UP = 250;

/** Programs that a machine may lack: where they may be, and the option that only asks for the version. */
const PROGRAMS = {
  nginx: { paths: ["nginx", "/usr/sbin/nginx"], version: "-v" },
  bun: { paths: [harness.bun()], version: "--version" },
  python3: { paths: ["python3"], version: "--version" },
};

/** A server that takes part. */
interface Contender {
  readonly what: string;
  /** What it needs besides Deno. */
  readonly needs?: keyof typeof PROGRAMS;
  /** `program` is the path of what it needs. */
  readonly start: (name: string, place: Place, program: string) => Promise<Server>;
}

/** In the order of a round: those whose ratio is a goal run one after the other. */
const CONTENDERS = {
  "nginx": { what: "nginx, one worker, sendfile and tcp_nopush on", needs: "nginx", start: startNginx },
  "static-deno": { what: "the static server on Deno", start: onDeno("../cli.ts", quiet) },
  "stream-deno": { what: "Deno.serve, FsFile.readable", start: onDeno("http_deno_stream.ts") },
  "raw-deno": {
    what: "Deno.listen and sendfile(), without HTTP, each file opened once",
    start: onDeno("raw_deno.ts", filesOf),
  },
  "floor-deno": { what: "Deno.serve, the least for a file with its fields", start: onDeno("http_floor.ts") },
  "servefile-deno": { what: "Deno.serve, serveFile", start: onDeno("http_servefile.ts") },
  "with-deno": {
    what: "Deno.serve, withSendfile around serveFile",
    start: onDeno("http_servefile.ts", wrapped),
  },
  "memory-deno": { what: "Deno.serve, bodies from memory", start: onDeno("http_memory.ts") },
  "memory-with": {
    what: "Deno.serve, withSendfile around bodies from memory",
    start: onDeno("http_memory.ts", wrapped),
  },
  "sendfile-deno": { what: "node:http on Deno, sendFile", start: onDeno("http_sendfile.ts") },
  "static-bun": { what: "the static server on Bun", needs: "bun", start: onProgram("../cli.ts", quiet) },
  "file-bun": { what: "Bun.serve, Bun.file", needs: "bun", start: onProgram("http_bun_file.ts") },
  "floor-bun": {
    what: "Bun.serve, Bun.file with the fields of serveFile",
    needs: "bun",
    start: onProgram("http_floor.ts"),
  },
  "servefile-bun": { what: "Bun.serve, serveFile", needs: "bun", start: onProgram("http_servefile.ts") },
  "asyncio": { what: "asyncio, loop.sendfile", needs: "python3", start: onProgram("asyncio_server.py") },
} as const satisfies Record<string, Contender>;

type Name = keyof typeof CONTENDERS;

const NAMES = Object.keys(CONTENDERS) as Name[];

/** A ratio that is to be reached: of requests per second at least, of CPU time per byte at most. */
interface Goal {
  readonly server: Name;
  readonly base: Name;
  readonly ratio: number;
  readonly figure?: keyof Pick<Row, "rates" | "costs">;
  readonly at: (size: number) => boolean;
}

const GOALS: readonly Goal[] = [
  { server: "static-deno", base: "nginx", ratio: 0.4, at: (size) => size === 64 * KIB },
  { server: "static-deno", base: "nginx", ratio: 1, at: (size) => size >= MIB },
  { server: "static-deno", base: "stream-deno", ratio: 3, at: (size) => size >= MIB },
  { server: "servefile-deno", base: "stream-deno", ratio: 2.2, at: (size) => size === 4 * KIB },
  { server: "servefile-deno", base: "stream-deno", ratio: 1.5, at: (size) => size === 64 * KIB },
  { server: "with-deno", base: "stream-deno", ratio: 2, at: (size) => size >= MIB },
  { server: "with-deno", base: "stream-deno", ratio: 0.45, figure: "costs", at: (size) => size >= MIB },
  { server: "memory-with", base: "memory-deno", ratio: 0.97, at: (size) => size === 4 * KIB },
  { server: "servefile-bun", base: "file-bun", ratio: 1, at: () => true },
  { server: "static-bun", base: "file-bun", ratio: 1, at: () => true },
];

/** What one run of a server showed. */
interface Run extends Drained {
  /** CPU seconds of the server for each second, and its memory after the run, in bytes. */
  readonly busy: number;
  readonly memory: number;
}

/** One size with one number of connections. */
interface Row {
  readonly label: string;
  readonly size: number;
  /** Responses per second of each server, by round. */
  readonly rates: Figures;
  /** CPU seconds of each server for each byte, by round. */
  readonly costs: Figures;
}

type Figures = ReadonlyMap<string, readonly number[]>;

const { values: flags } = parseArgs({
  options: {
    seconds: { type: "string", default: "1.5" },
    rounds: { type: "string", default: "3" },
    sizes: { type: "string", default: "4K,64K,1M,100M" },
    connections: { type: "string", default: "16" },
    only: { type: "string" },
  },
});
const seconds = positive("seconds", flags.seconds);
const rounds = positive("rounds", flags.rounds);
const sizes = flags.sizes.split(",").map(harness.parseSize);
const connections = flags.connections.split(",").map((text) => positive("connections", text));
const only = flags.only?.split(",") ?? NAMES;
for (const name of only) {
  if (!(name in CONTENDERS)) throw new TypeError(`--only takes ${NAMES.join(", ")}, not ${name}`);
}

await harness.runBenchmark("http", bench);

async function bench(place: Place): Promise<void> {
  await harness.compile(place, "drain");
  const files = sizes.map((size) => harness.makeFile(place, size));
  const servers = await startAll(place);
  for (const server of servers) {
    for (const file of files) await harness.check(server, file);
  }
  console.log(
    `\nfiles on ${place.medium}, ${rounds} rounds of ${seconds} s; ` +
      "every server gave every file right, byte for byte",
  );
  const rows: Row[] = [];
  for (const file of files) {
    for (const count of connections) rows.push(await measure(place, servers, file, count));
  }
  printGoals(rows);
}

/** Starts the servers that were asked for, and says which these are and which the machine cannot run. */
async function startAll(place: Place): Promise<Server[]> {
  const servers: Server[] = [];
  for (const name of NAMES.filter(isWanted)) {
    const { what, needs, start }: Contender = CONTENDERS[name];
    const program = needs === undefined ? Deno.execPath() : await find(needs);
    if (program !== undefined) servers.push(await start(name, place, program));
    const skipped = program === undefined ? ` - SKIPPED: there is no ${needs}` : "";
    console.log(`${name.padEnd(15)} ${what}${skipped}`);
  }
  if (servers.length === 0) throw new Error("there is no server to measure");
  return servers;
}

function isWanted(name: Name): boolean {
  return name === "nginx" || only.includes(name);
}

/** The path of a program that runs. */
async function find(name: keyof typeof PROGRAMS): Promise<string | undefined> {
  const { paths, version } = PROGRAMS[name];
  for (const path of paths) {
    const command = new Deno.Command(path, { args: [version], stdout: "null", stderr: "null" });
    try {
      if ((await command.output()).success) return path;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

function onDeno(script: string, args = directoryOnly): Contender["start"] {
  const options = ["run", "-A", "--node-modules-dir=none"];
  return (name, { data }) =>
    harness.start(name, [Deno.execPath(), ...options, harness.local(script), ...args(data)]);
}

function onProgram(script: string, args = directoryOnly): Contender["start"] {
  return (name, { data }, program) => harness.start(name, [program, harness.local(script), ...args(data)]);
}

function directoryOnly(data: string): string[] {
  return [data];
}

function filesOf(data: string): string[] {
  return [...Deno.readDirSync(data)].map(({ name }) => `${data}/${name}`);
}

function wrapped(data: string): string[] {
  return [data, String(MIB)];
}

/** The arguments of the static server. */
function quiet(data: string): string[] {
  return ["--log", "none", "--host", "127.0.0.1", "-p", "0", data];
}

function startNginx(name: string, { programs, data }: Place, program: string): Promise<Server> {
  const port = harness.freePort();
  const config = `${programs}/nginx.conf`;
  Deno.writeTextFileSync(config, nginxConfig(programs, data, port));
  return harness.startAt(name, port, [program, "-p", programs, "-e", `${programs}/error.log`, "-c", config]);
}

/** What is not said is as nginx has it: so there is no open_file_cache. */
function nginxConfig(programs: string, data: string, port: number): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `
    ${Deno.uid() === 0 ? "user root;" : ""} # who else may not read a temporary directory
    daemon off;
    worker_processes 1;
    pid ${programs}/nginx.pid;
    error_log ${programs}/error.log;
    events { worker_connections 4096; }
    http {
      access_log off;
      sendfile on;
      tcp_nopush on;
      keepalive_requests 1000000000;
      keepalive_timeout 1h;
      default_type application/octet-stream;
      ${temporary.map((name) => `${name}_temp_path ${programs}/${name};`).join("\n      ")}
      server {
        listen 127.0.0.1:${port};
        root ${data};
      }
    }`;
}

/** Measures and prints all servers at one size. */
async function measure(place: Place, servers: Server[], file: File, count: number): Promise<Row> {
  const label = `${harness.shownSize(file)} x ${count}`;
  servers.forEach(forgetPeak);
  const measured = await harness.measureRounds(servers, rounds, (server) => load(place, server, file, count));
  const figures = (of: (run: Run, server: Server) => number): Figures =>
    new Map(servers.map((server, i) => [server.name, measured.map(({ runs }) => of(runs[i], server))]));
  const rates = figures((run, server) => rate(server, file, run));
  const costs = figures(costOf);
  console.log(`\n${label}`);
  printRow(["", "req/s", "GB/s", "CPU s/GB", "MB now", "MB peak", "/ nginx"]);
  servers.forEach((server, i) => printServer(server, measured.map(({ runs }) => runs[i]), rates));
  harness.printDoubts(measured);
  return { label, size: file.body.length, rates, costs };
}

function costOf({ busy, seconds, bytes }: Run): number {
  return busy * seconds / bytes;
}

function printServer(server: Server, runs: readonly Run[], rates: Figures): void {
  const perSecond = median(rates.get(server.name)!);
  const ratios = ratiosOf(rates, server.name, "nginx");
  printRow([
    server.name,
    perSecond.toFixed(perSecond < 1000 ? 1 : 0),
    median(runs.map(({ bytes, seconds }) => bytes / seconds / 1e9)).toFixed(2),
    (median(runs.map(costOf)) * 1e9).toFixed(3),
    shownMemory(median(runs.map(({ memory }) => memory))),
    shownMemory(memory(server, "VmHWM")),
    ratios ? median(ratios).toFixed(2) : "-",
  ]);
}

/** One run, with what it cost the server. */
async function load(place: Place, server: Server, file: File, count: number): Promise<Run> {
  const running = harness.drain(place, server, file, count, seconds);
  const [drained, before] = await Promise.all([running, afterWarmUp(server)]);
  const after = clocks(server);
  const busy = (after.cpu - before.cpu) / (after.time - before.time);
  return { ...drained, busy, memory: memory(server, "VmRSS") };
}

/** Drain does not count what arrives during its warm-up; what that costs is not to count either. */
async function afterWarmUp(server: Server): Promise<ReturnType<typeof clocks>> {
  await new Promise((resolve) => setTimeout(resolve, WARM_UP));
  return clocks(server);
}

/** The time, and the CPU time of a server, in seconds. */
function clocks(server: Server): { readonly time: number; readonly cpu: number } {
  return { time: performance.now() / 1000, cpu: harness.cpuSeconds(server) };
}

/** The memory that a server holds (VmRSS), or the most that it held (VmHWM), in bytes. */
function memory(server: Server, field: "VmRSS" | "VmHWM"): number {
  return harness.sum(
    processes(server).map((pid) => {
      const status = Deno.readTextFileSync(`/proc/${pid}/status`);
      return Number(new RegExp(`^${field}:\\s*(\\d+) kB`, "m").exec(status)![1]) * KIB;
    }),
  );
}

/** Lets a server's peak memory begin anew: at what it holds now. */
function forgetPeak(server: Server): void {
  for (const pid of processes(server)) Deno.writeTextFileSync(`/proc/${pid}/clear_refs`, "5");
}

function printGoals(rows: readonly Row[]): void {
  const goals = GOALS.filter(({ server, base }) => isWanted(server) && isWanted(base));
  if (goals.length === 0) return;
  console.log("\ngoals (the median of the ratios, and their range)");
  for (const goal of goals) {
    for (const row of rows.filter(({ size }) => goal.at(size))) printGoal(goal, row);
  }
}

function printGoal({ server, base, ratio, figure = "rates" }: Goal, row: Row): void {
  const ratios = ratiosOf(row[figure], server, base);
  const bound = `${figure === "costs" ? "CPU <=" : ">="} ${ratio}`.padEnd(12);
  console.log(`  ${`${server} / ${base}`.padEnd(30)}${row.label.padEnd(14)}${bound}` + verdict());

  function verdict(): string {
    if (!ratios) return "not measured";
    const met = figure === "costs" ? median(ratios) <= ratio : median(ratios) >= ratio;
    return `${met ? "met    " : "NOT MET"} ${shownRatios(ratios)}`;
  }
}

/** Each round's ratio of two servers, where both were measured. */
function ratiosOf(figures: Figures, server: string, base: string): number[] | undefined {
  const bases = figures.get(base);
  return bases && figures.get(server)?.map((figure, i) => figure / bases[i]);
}

function shownRatios(ratios: readonly number[]): string {
  const [middle, least, most] = [median(ratios), Math.min(...ratios), Math.max(...ratios)];
  return `${middle.toFixed(2)} (${least.toFixed(2)} to ${most.toFixed(2)})`;
}

function shownMemory(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
