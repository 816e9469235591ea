/**
 * What the benchmarks have in common: servers on core 0, loaded by drain.c on core 1.
 *
 * Each round runs every server once, so that a ratio compares neighbours in time. A round that other work on the
 * machine disturbed is run again, not for ever. Rates are counted in bytes, as 64 responses of 100 MiB all end at
 * once, or just after the run has.
 */
import { Buffer } from "node:buffer";

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** Milliseconds after which a server that has not answered will not. */
const PATIENCE = 30_000;

/** The part of a core that other work may take from a round that counts. */
const QUIET = 0.05;

/** Clock ticks a second in /proc (USER_HZ). */
const TICKS = 100;

/** More than the head of a response has. */
const HEAD_MAX = 16 * KIB;

export interface Server {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  readonly status: Promise<Deno.CommandStatus>;
  /** The lengths of whole responses by the file, once checked. */
  readonly lengths: Map<File, number>;
}

export interface File {
  readonly name: string;
  readonly path: string;
  readonly body: Uint8Array;
}

/** What drain prints. */
export interface Drained {
  readonly bytes: number;
  readonly seconds: number;
  readonly reconnects: number;
  readonly short: number;
  readonly idle: number;
  readonly cpu: number;
}

export interface Round<Run extends Drained> {
  /** Those of the servers, in their order. */
  readonly runs: readonly Run[];
  /** The part of a core that other work took, and the part of the time that the client had nothing to do. */
  readonly others: number;
  readonly idle: number;
}

/** Where a benchmark has its things. */
export interface Place {
  /** Compiled programs, and what else servers need. */
  readonly programs: string;
  /** The files that are served. */
  readonly data: string;
  /** What `data` is on, in words. */
  readonly medium: string;
}

/** Ends every child, whatever happens. */
const stop = new AbortController();
const statuses: Promise<Deno.CommandStatus>[] = [];

/** Runs a benchmark, then ends all that it has started and removes what it has made, and ends the process. */
export async function runBenchmark(name: string, body: (place: Place) => Promise<void>): Promise<never> {
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => stop.abort());
  const tmpfs = isDirectory("/dev/shm");
  const prefix = `bench-${name}-`;
  const programs = Deno.makeTempDirSync({ prefix });
  const data = Deno.makeTempDirSync({ prefix, dir: tmpfs ? "/dev/shm" : undefined });
  try {
    if (navigator.hardwareConcurrency < 2) throw new Error("server and client need a core each");
    await body({ programs, data, medium: tmpfs ? "tmpfs (/dev/shm)" : `disk (${data})` });
  } finally {
    stop.abort();
    await Promise.all(statuses);
    Deno.removeSync(programs, { recursive: true });
    Deno.removeSync(data, { recursive: true });
  }
  Deno.exit(); // the signal listeners would keep the process
}

/** As many rounds as asked for, the quietest of up to three times as many. */
export async function measureRounds<Run extends Drained>(
  servers: readonly Server[],
  rounds: number,
  load: (server: Server) => Promise<Run>,
): Promise<Round<Run>[]> {
  const all: Round<Run>[] = [];
  for (let i = 0; i < rounds * 3 && all.filter((round) => round.others < QUIET).length < rounds; i++) {
    all.push(await runRound(servers, i, load));
  }
  return all.sort((a, b) => a.others - b.others).slice(0, rounds);
}

/** Runs every server once. Each round begins with another: none is always the first after a pause. */
async function runRound<Run extends Drained>(
  servers: readonly Server[],
  first: number,
  load: (server: Server) => Promise<Run>,
): Promise<Round<Run>> {
  const round = { runs: [] as Run[], others: 0, idle: 1 };
  for (let i = 0; i < servers.length; i++) {
    const which = (first + i) % servers.length;
    const began = performance.now();
    const before = otherWork(servers[which]);
    const run = await load(servers[which]);
    const work = otherWork(servers[which]) - before - run.cpu;
    const others = work / (performance.now() - began) * 1000;
    round.runs[which] = run;
    round.others = Math.max(round.others, others);
    round.idle = Math.min(round.idle, run.idle);
  }
  return round;
}

/** Prints what makes rounds doubtful. */
export function printDoubts(rounds: readonly Round<Drained>[]): void {
  const idle = Math.min(...rounds.map((round) => round.idle));
  if (idle < 0.1) console.log("  (the client was busy nearly all the time: it may have been the limit)");
  const others = Math.max(...rounds.map((round) => round.others));
  if (others >= QUIET) {
    console.log(`  (other work took up to ${Math.round(others * 100)} % of a core: noise)`);
  }
}

/** CPU seconds that the machine has spent on anything but `server` so far. */
function otherWork(server: Server): number {
  const machine = Deno.readTextFileSync("/proc/stat").split("\n")[0].split(/ +/);
  return sumTicks(machine.slice(1, 4)) - cpuSeconds(server); // user, nice, system
}

/** CPU seconds that `server` has taken so far. */
export function cpuSeconds(server: Server): number {
  return sum(
    processes(server).map((pid) => {
      const stat = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1].split(" ");
      return sumTicks(stat.slice(11, 13)); // utime, stime
    }),
  );
}

/** A server's process and its children. */
export function processes({ pid }: { readonly pid: number }): number[] {
  const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean);
  return [pid, ...children.flatMap((child) => processes({ pid: Number(child) }))];
}

function sumTicks(fields: readonly string[]): number {
  return sum(fields.map(Number)) / TICKS;
}

export async function drain(
  { programs }: Place,
  server: Server,
  file: File,
  connections: number,
  seconds: number,
): Promise<Drained> {
  const args = [server.port, `/${file.name}`, connections, seconds].map(String);
  const drained: Drained = JSON.parse(await run("taskset", ["-c", "1", `${programs}/drain`, ...args]));
  if (drained.reconnects > 0 || drained.short > 0) {
    throw new Error(`${server.name} closed connections under load: ${JSON.stringify(drained)}`);
  }
  return drained;
}

/** Responses per second. */
export function rate(server: Server, file: File, { bytes, seconds }: Drained): number {
  return bytes / server.lengths.get(file)! / seconds;
}

/**
 * Throws unless the server gives the right response, and once more where the connection stays open, without a byte too
 * many. The head is to be `head`, or any that tells the length.
 */
export async function check(server: Server, file: File, head?: Uint8Array): Promise<void> {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  const { promise: expired, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("no answer")), PATIENCE);
  try {
    for (let response = 0; response < 2; response++) {
      const { length, closes } = await Promise.race([ask(conn, file, head), expired]);
      server.lengths.set(file, length);
      if (closes) break;
    }
  } catch (cause) {
    stop.signal.throwIfAborted();
    throw new Error(`${server.name} does not serve ${file.name} right`, { cause });
  } finally {
    clearTimeout(timer);
    conn.close();
  }
}

/** Asks for the file as drain does; the length of the response, and whether the server says that it closes. */
async function ask(
  conn: Deno.TcpConn,
  file: File,
  head?: Uint8Array,
): Promise<{ length: number; closes: boolean }> {
  await conn.write(new TextEncoder().encode(`GET /${file.name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`));
  const received = Buffer.alloc(HEAD_MAX + file.body.length);
  let at = 0;
  let body = -1;
  while (body < 0 || at < body + file.body.length) {
    const read = await conn.read(received.subarray(at));
    if (read === null) throw new Error(`the response ended after ${at} bytes`);
    at += read;
    if (body < 0) body = checkHead(received.subarray(0, Math.min(at, HEAD_MAX)), file, head);
  }
  checkBody(received.subarray(body, at), file);
  return { length: at, closes: /^connection: *close\r$/im.test(received.toString("latin1", 0, body)) };
}

/** Where the body begins, or -1 where that has not arrived. */
function checkHead(received: Buffer, file: File, head?: Uint8Array): number {
  const end = received.indexOf("\r\n\r\n") + 4;
  if (end < 4) {
    if (received.length < HEAD_MAX) return -1;
    throw new Error("the head has no end");
  }
  const text = received.toString("latin1", 0, end);
  const length = /^content-length: *(\d+)\r$/im.exec(text)?.[1];
  const right = head ? received.subarray(0, end).equals(head) : text.startsWith("HTTP/1.1 200 ");
  if (!right || Number(length) !== file.body.length) throw new Error(`the head is wrong: ${text}`);
  return end;
}

function checkBody(received: Buffer, { body }: File): void {
  if (received.equals(body)) return;
  const wrong = received.findIndex((byte, i) => byte !== body[i]);
  throw new Error(wrong < 0 ? "the body is too short" : `the response is wrong at byte ${wrong} of the body`);
}

/** Starts a server that prints its port on a line, alone or as that of a URL. */
export async function start(name: string, command: readonly string[], env = {}): Promise<Server> {
  const { pid, status, stdout } = spawn(command, "piped", env);
  const reader = stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the server for ${name} did not start: ${command.join(" ")}`);
    text += value;
    const port = /^(?:http:\/\/127\.0\.0\.1:)?(\d+)\/?\n/m.exec(text)?.[1];
    if (!port) continue;
    ignore(reader);
    return { name, port: Number(port), pid, status, lengths: new Map() };
  }
}

/** Starts a server that is told its port, and waits until it listens. */
export async function startAt(name: string, port: number, command: readonly string[]): Promise<Server> {
  const { pid, status } = spawn(command, "null");
  for (const began = Date.now(); !await listens(port);) {
    stop.signal.throwIfAborted();
    if (Date.now() - began > PATIENCE) throw new Error(`${name} does not listen: ${command.join(" ")}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return { name, port, pid, status, lengths: new Map() };
}

/** Ends one server before the benchmark's end. */
export async function end({ pid, status }: Server): Promise<void> {
  Deno.kill(pid, "SIGKILL");
  await status;
}

/** A port that nobody has, for the moment. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function listens(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    throw error;
  }
}

/** Starts a program on core 0. */
function spawn(command: readonly string[], stdout: "piped" | "null", env = {}) {
  const child = new Deno.Command("taskset", {
    args: ["-c", "0", ...command],
    env,
    stdin: "null",
    stdout,
    stderr: "inherit",
    signal: stop.signal,
  }).spawn();
  statuses.push(child.status);
  return child;
}

/** Reads on: a server that prints must find neither a closed pipe nor a full one. */
async function ignore(reader: ReadableStreamDefaultReader<string>): Promise<void> {
  while (!(await reader.read()).done);
}

/** Compiles a program of this directory. */
export async function compile({ programs }: Place, name: string): Promise<void> {
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

export function makeFile({ data }: Place, size: number): File {
  const body = new Uint8Array(size);
  // Random, so that no piece can pass for another; the call takes 64 KiB at most.
  for (let at = 0; at < size; at += 64 * KIB) crypto.getRandomValues(body.subarray(at, at + 64 * KIB));
  const name = `${size}.bin`;
  const path = `${data}/${name}`;
  Deno.writeFileSync(path, body);
  return { name, path, body };
}

/** Bun of this checkout, or the one on the PATH. */
export function bun(): string {
  const installed = local("../node_modules/.bin/bun");
  try {
    return Deno.realPathSync(installed);
  } catch {
    return "bun";
  }
}

/** The path of a file beside this one. */
export function local(name: string): string {
  return new URL(name, import.meta.url).pathname;
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** The number that an option gives. */
export function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new RangeError(`--${name} takes numbers above 0, not ${text}`);
  return value;
}

/** Bytes of a size such as `64K`. */
export function parseSize(text: string): number {
  const match = /^(\d+)([KM]?)(?:iB)?$/i.exec(text);
  if (!match) throw new TypeError(`--sizes takes sizes such as 4K or 1M, not ${text}`);
  const unit = { "": 1, K: KIB, M: MIB }[match[2].toUpperCase()]!;
  return positive("sizes", match[1]) * unit;
}

export function shownSize({ body: { length } }: File): string {
  if (length % MIB === 0) return `${length / MIB} MiB`;
  return length % KIB === 0 ? `${length / KIB} KiB` : `${length} B`;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** A row of a table; its cells are right-aligned. */
export function printRow(cells: readonly string[]): void {
  console.log(cells.map((cell) => cell.padStart(15)).join(""));
}
