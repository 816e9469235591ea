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
 * Each round runs every server once, so that a ratio compares neighbours in time; the table shows medians. A
 * round that other work on the machine disturbed is run again, not for ever. Rates are counted in bytes, as
 * 64 responses of 100 MiB all end at once, or just after the run has.
 */
import { Buffer } from "node:buffer";
import { parseArgs } from "node:util";
import { head } from "./served.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** Runtimes in `--only` and in the table. */
const RUNTIMES = ["Deno", "Bun"] as const;
const ALL = ["Deno", "Bun", "bare Deno", "bare Bun"] as const;

/** The ratio to C that is to be reached. */
const goal = (size: number): number => size >= 64 * KIB ? 0.9 : 0.7;

/** Milliseconds after which a server that has not answered will not. */
const PATIENCE = 30_000;

/** The part of a core that other work may take from a round that counts. */
const QUIET = 0.05;

/** Clock ticks a second in /proc (USER_HZ). */
const TICKS = 100;

interface Server {
  readonly name: "C" | typeof ALL[number];
  readonly port: number;
  readonly pid: number;
  readonly status: Promise<Deno.CommandStatus>;
}

interface File {
  readonly name: string;
  readonly path: string;
  readonly size: number;
  /** The whole response. */
  readonly response: Uint8Array;
}

interface Round {
  /** Responses per second of each server; the first is C. */
  readonly rates: readonly number[];
  /** The part of a core that other work took, and the part of the time that the client had nothing to do. */
  readonly others: number;
  readonly idle: number;
}

/** What drain prints. */
interface Drained {
  readonly bytes: number;
  readonly seconds: number;
  readonly reconnects: number;
  readonly short: number;
  readonly idle: number;
  readonly cpu: number;
}

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
const sizes = flags.sizes.split(",").map(parseSize);
const connections = flags.connections.split(",").map((text) => positive("connections", text));
const only = flags.only?.toLowerCase();
const runtimes = (flags.bare ? ALL : RUNTIMES).filter((name) =>
  only === undefined || name.toLowerCase().endsWith(only)
);
if (runtimes.length === 0) throw new TypeError(`--only takes deno or bun, not ${flags.only}`);

/** Ends every child, whatever happens. */
const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, () => stop.abort());

const tmpfs = isDirectory("/dev/shm");
const programs = Deno.makeTempDirSync({ prefix: "bench-raw-" });
const data = Deno.makeTempDirSync({ prefix: "bench-raw-", dir: tmpfs ? "/dev/shm" : undefined });
const servers: Server[] = [];
try {
  await bench();
} finally {
  stop.abort();
  await Promise.all(servers.map((server) => server.status));
  Deno.removeSync(programs, { recursive: true });
  Deno.removeSync(data, { recursive: true });
}
Deno.exit(); // the signal listeners would keep the process

async function bench(): Promise<void> {
  if (navigator.hardwareConcurrency < 2) throw new Error("server and client need a core each");
  await Promise.all(["server", "drain"].map(compile));
  const files = sizes.map(makeFile);
  const paths = files.map((file) => file.path);
  servers.push(await start("C", [`${programs}/server`, ...paths]));
  for (const name of runtimes) {
    const isDeno = name.endsWith("Deno");
    const script = local(isDeno ? "raw_deno.ts" : "raw_bun.ts");
    const command = isDeno ? [Deno.execPath(), "run", "-A"] : [bun()];
    servers.push(await start(name, [...command, script, ...paths], name.startsWith("bare")));
  }
  for (const server of servers) {
    for (const file of files) await check(server, file);
  }
  console.log(
    `files on ${tmpfs ? "tmpfs (/dev/shm)" : `disk (${data})`}, ${rounds} rounds of ${seconds} s; ` +
      "every server gave every response right, byte for byte\n",
  );
  print(["size", "connections", "C req/s", "C GB/s", ...runtimes.map((name) => `${name} / C`)]);
  const misses: string[] = [];
  for (const file of files) {
    for (const count of connections) misses.push(...await measure(file, count));
  }
  console.log(
    "\ngoals: 0.9 of C from 64 KiB up, 0.7 below: " + (misses.length === 0 ? "reached" : "missed at"),
  );
  for (const miss of misses) console.log(`  ${miss}`);
}

/** Measures and prints one row; what has missed its goal. */
async function measure(file: File, count: number): Promise<string[]> {
  const all: Round[] = [];
  for (let i = 0; i < rounds * 3 && all.filter((round) => round.others < QUIET).length < rounds; i++) {
    all.push(await runRound(file, count, i));
  }
  const quietest = all.sort((a, b) => a.others - b.others).slice(0, rounds);
  const c = median(quietest.map(({ rates }) => rates[0]));
  const ratios = runtimes.map((_, i) => median(quietest.map(({ rates }) => rates[i + 1] / rates[0])));
  const label = shown(file.size);
  print([
    label,
    String(count),
    c.toFixed(c < 1000 ? 1 : 0),
    (c * file.response.length / 1e9).toFixed(2),
    ...ratios.map((ratio) => ratio.toFixed(2)),
  ]);
  const idle = Math.min(...quietest.map((round) => round.idle));
  if (idle < 0.1) console.log("  (the client was busy nearly all the time: it may have been the limit)");
  const { others } = quietest[quietest.length - 1];
  if (others >= QUIET) {
    console.log(`  (other work took up to ${Math.round(others * 100)} % of a core: noise)`);
  }
  return runtimes.flatMap((name, i) =>
    !name.startsWith("bare") && ratios[i] < goal(file.size)
      ? [`${label} x ${count}: ${name} ${ratios[i].toFixed(3)}, not ${goal(file.size)}`]
      : []
  );
}

/** Runs every server once. Each round begins with another: none is always the first after a pause. */
async function runRound(file: File, count: number, first: number): Promise<Round> {
  const round = { rates: [] as number[], others: 0, idle: 1 };
  for (let i = 0; i < servers.length; i++) {
    const which = (first + i) % servers.length;
    const began = performance.now();
    const before = otherWork(servers[which]);
    const drained = await drain(servers[which], file, count);
    const work = otherWork(servers[which]) - before - drained.cpu;
    const others = work / (performance.now() - began) * 1000;
    round.rates[which] = drained.bytes / file.response.length / drained.seconds;
    round.others = Math.max(round.others, others);
    round.idle = Math.min(round.idle, drained.idle);
  }
  return round;
}

/** CPU seconds that the machine has spent on anything but `server` so far. */
function otherWork(server: Server): number {
  const ticks = (fields: string[]) => fields.reduce((sum, field) => sum + Number(field), 0) / TICKS;
  const machine = Deno.readTextFileSync("/proc/stat").split("\n")[0].split(/ +/);
  const process = Deno.readTextFileSync(`/proc/${server.pid}/stat`).split(") ")[1].split(" ");
  return ticks(machine.slice(1, 4)) - ticks(process.slice(11, 13)); // user, nice, system; utime, stime
}

async function drain(server: Server, file: File, count: number): Promise<Drained> {
  const args = [String(server.port), `/${file.name}`, String(count), String(seconds)];
  const drained: Drained = JSON.parse(await run("taskset", ["-c", "1", `${programs}/drain`, ...args]));
  if (drained.reconnects > 0 || drained.short > 0) {
    throw new Error(`${server.name} closed connections under load: ${JSON.stringify(drained)}`);
  }
  return drained;
}

/** Throws unless the server gives the right response twice on one connection, without a byte too many. */
async function check(server: Server, file: File): Promise<void> {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  const { promise: expired, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("no answer")), PATIENCE);
  const received = new Uint8Array(file.response.length);
  try {
    for (let response = 0; response < 2; response++) {
      await conn.write(new TextEncoder().encode(`GET /${file.name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`));
      for (let at = 0; at < received.length;) {
        const read = await Promise.race([conn.read(received.subarray(at)), expired]);
        if (read === null) throw new Error(`the response ended after ${at} bytes`);
        at += read;
      }
      if (Buffer.compare(received, file.response) !== 0) {
        const wrong = received.findIndex((byte, i) => byte !== file.response[i]);
        throw new Error(`the response is wrong at byte ${wrong}`);
      }
    }
  } catch (cause) {
    stop.signal.throwIfAborted();
    throw new Error(`${server.name} does not serve ${file.name} right`, { cause });
  } finally {
    clearTimeout(timer);
    conn.close();
  }
}

/** Starts a server on core 0; it prints its port. */
async function start(name: Server["name"], command: string[], bare = false): Promise<Server> {
  const child = new Deno.Command("taskset", {
    args: ["-c", "0", ...command],
    env: bare ? { BENCH_BARE: "1" } : {},
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
    signal: stop.signal,
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let line = "";
  while (!line.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the server for ${name} did not start: ${command.join(" ")}`);
    line += value;
  }
  await reader.cancel();
  return { name, port: Number(line), pid: child.pid, status: child.status };
}

async function compile(name: string): Promise<void> {
  await run("cc", ["-O2", "-Wall", "-Wextra", "-o", `${programs}/${name}`, local(`${name}.c`)]);
}

/** What a program prints. */
async function run(command: string, args: string[]): Promise<string> {
  const { signal } = stop;
  const { success, stdout } = await new Deno.Command(command, { args, stderr: "inherit", signal }).output();
  signal.throwIfAborted();
  if (!success) throw new Error(`failed: ${command} ${args.join(" ")}`);
  return new TextDecoder().decode(stdout);
}

function makeFile(size: number): File {
  const start = head(size);
  const response = new Uint8Array(start.length + size);
  response.set(start);
  // Random, so that no piece can pass for another; the call takes 64 KiB at most.
  for (let at = start.length; at < response.length; at += 64 * KIB) {
    crypto.getRandomValues(response.subarray(at, at + 64 * KIB));
  }
  const name = `${size}.bin`;
  const path = `${data}/${name}`;
  Deno.writeFileSync(path, response.subarray(start.length));
  return { name, path, size, response };
}

/** That of this checkout, or the one on the PATH. */
function bun(): string {
  const installed = local("../node_modules/.bin/bun");
  try {
    return Deno.realPathSync(installed);
  } catch {
    return "bun";
  }
}

function local(name: string): string {
  return new URL(name, import.meta.url).pathname;
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new RangeError(`--${name} takes numbers above 0, not ${text}`);
  return value;
}

function parseSize(text: string): number {
  const match = /^(\d+)([KM]?)(?:iB)?$/i.exec(text);
  if (!match) throw new TypeError(`--sizes takes sizes such as 4K or 1M, not ${text}`);
  const unit = { "": 1, K: KIB, M: MIB }[match[2].toUpperCase()]!;
  return positive("sizes", match[1]) * unit;
}

function shown(size: number): string {
  if (size % MIB === 0) return `${size / MIB} MiB`;
  return size % KIB === 0 ? `${size / KIB} KiB` : `${size} B`;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

function print(cells: readonly string[]): void {
  console.log(cells.map((cell) => cell.padStart(15)).join(""));
}
