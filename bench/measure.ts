/**
 * Measures servers. Each round runs every server once, so that a ratio compares runs that are close in time. A round
 * that was disturbed by other work on the machine is repeated, up to a limit. Rates are counted in bytes, because 64
 * responses of 100 MiB all end at once, or just after the run.
 */
import { type File, type Place, run } from "./harness.ts";
import { KIB, QUIET, sum } from "./numbers.ts";
import type { Server } from "./servers.ts";

/** Clock ticks a second in /proc (USER_HZ). */
const TICKS = 100;

/** Milliseconds for starting drain and its warm-up; the server's CPU time is counted from then on. */
const WARM_UP = 250;

/** The output of drain; latencies in microseconds, null if no response ended in time. */
export interface Drained {
  readonly requests: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly reconnects: number;
  readonly short: number;
  readonly idle: number;
  readonly cpu: number;
  readonly p50: number | null;
  readonly p99: number | null;
  readonly congestion: string;
}

/** The result of one run of a server. */
export interface Run extends Drained {
  /** CPU seconds of the server for each second. */
  readonly user: number;
  readonly system: number;
  /** The server's memory after the run, in bytes. */
  readonly memory: number;
}

export interface Round {
  /** The runs of the servers, in their order. */
  readonly runs: readonly Run[];
  /** The share of a core that other work took, and the share of the time that the client was idle. */
  readonly others: number;
  readonly idle: number;
}

/** The parameters that every run of a cell shares. */
export interface Load {
  readonly place: Place;
  readonly file: File;
  readonly connections: number;
  readonly seconds: number;
}

/** Runs up to three times the requested number of rounds, and returns the quietest ones. */
export async function measureRounds(
  servers: readonly Server[],
  rounds: number,
  load: Load,
): Promise<Round[]> {
  const all: Round[] = [];
  for (let i = 0; i < rounds * 3 && all.filter((round) => round.others < QUIET).length < rounds; i++) {
    all.push(await runRound(servers, i, load));
  }
  return all.sort((a, b) => a.others - b.others).slice(0, rounds);
}

/**
 * Runs every server once. Each round begins with another server, so that no server is always the first after a pause.
 */
async function runRound(servers: readonly Server[], first: number, load: Load): Promise<Round> {
  const round = { runs: [] as Run[], others: 0, idle: 1 };
  for (let i = 0; i < servers.length; i++) {
    const which = (first + i) % servers.length;
    const began = performance.now();
    const before = otherWork(servers[which]);
    const run = await runOnce(servers[which], load);
    const work = otherWork(servers[which]) - before - run.cpu;
    const others = work / (performance.now() - began) * 1000;
    round.runs[which] = run;
    round.others = Math.max(round.others, others);
    round.idle = Math.min(round.idle, run.idle);
  }
  return round;
}

/** One run, with the server's costs. */
async function runOnce(server: Server, load: Load): Promise<Run> {
  const running = drain(server, load);
  const [drained, before] = await Promise.all([running, afterWarmUp(server)]);
  const after = clocks(server);
  const time = after.time - before.time;
  return {
    ...drained,
    user: (after.user - before.user) / time,
    system: (after.system - before.system) / time,
    memory: memory(server, "VmRSS"),
  };
}

/** Loads a server from core 1. */
export async function drain(
  server: Server,
  { place: { programs }, file, connections, seconds }: Load,
): Promise<Drained> {
  const args = [server.host, server.port, `/${file.name}`, connections, seconds].map(String);
  const drained: Drained = JSON.parse(await run(["taskset", "-c", "1", `${programs}/drain`, ...args]));
  if (drained.reconnects > 0 || drained.short > 0) {
    throw new Error(`${server.name} closed connections under load: ${JSON.stringify(drained)}`);
  }
  return drained;
}

/**
 * Reads the clocks after drain's warm-up: drain does not count bytes of the warm-up, so the server's CPU time for
 * them must not count either.
 */
async function afterWarmUp(server: Server): Promise<ReturnType<typeof clocks>> {
  await new Promise((resolve) => setTimeout(resolve, WARM_UP));
  return clocks(server);
}

/** The time, and the CPU time of a server, in seconds. */
function clocks(server: Server): { readonly time: number; readonly user: number; readonly system: number } {
  return { time: performance.now() / 1000, ...cpuSeconds(server) };
}

/** CPU seconds that the machine has spent so far on anything except `server`. */
function otherWork(server: Server): number {
  const machine = Deno.readTextFileSync("/proc/stat").split("\n")[0].split(/ +/);
  const { user, system } = cpuSeconds(server);
  return sumTicks(machine.slice(1, 4)) - user - system; // user, nice, system
}

/** CPU seconds that `server` has used so far. */
export function cpuSeconds(server: Server): { readonly user: number; readonly system: number } {
  const times = processes(server).map((pid) =>
    Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1].split(" ")
  );
  return {
    user: sumTicks(times.map((fields) => fields[11])),
    system: sumTicks(times.map((fields) => fields[12])),
  };
}

/** A server's process and its children. */
export function processes({ pid }: { readonly pid: number }): number[] {
  const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean);
  return [pid, ...children.flatMap((child) => processes({ pid: Number(child) }))];
}

function sumTicks(fields: readonly string[]): number {
  return sum(fields.map(Number)) / TICKS;
}

/** A server's memory (VmRSS) or peak memory (VmHWM) in bytes. */
export function memory(server: Server, field: "VmRSS" | "VmHWM"): number {
  return sum(
    processes(server).map((pid) => {
      const status = Deno.readTextFileSync(`/proc/${pid}/status`);
      return Number(new RegExp(`^${field}:\\s*(\\d+) kB`, "m").exec(status)![1]) * KIB;
    }),
  );
}

/** Resets a server's peak memory to its current memory. */
export function forgetPeak(server: Server): void {
  for (const pid of processes(server)) Deno.writeTextFileSync(`/proc/${pid}/clear_refs`, "5");
}
