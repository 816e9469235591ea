/**
 * How servers are measured: each round runs every server once, so that a ratio compares neighbours in time. A round that
 * other work on the machine disturbed is run again, not for ever. Rates are counted in bytes, as 64 responses of 100 MiB
 * all end at once, or just after the run has.
 */
import { type File, type Place, run } from "./harness.ts";
import { KIB, QUIET, sum } from "./numbers.ts";
import type { Server } from "./servers.ts";

/** Clock ticks a second in /proc (USER_HZ). */
const TICKS = 100;

/** Drain's warm-up and the time to start it, in milliseconds: from then on the server's CPU time is counted. */
const WARM_UP = 250;

/** What drain prints; latencies in microseconds, null where no response ended in time. */
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

/** What one run of a server showed. */
export interface Run extends Drained {
  /** CPU seconds of the server for each second. */
  readonly user: number;
  readonly system: number;
  /** What the server held in memory after the run, in bytes. */
  readonly memory: number;
}

export interface Round {
  /** Those of the servers, in their order. */
  readonly runs: readonly Run[];
  /** The part of a core that other work took, and the part of the time that the client had nothing to do. */
  readonly others: number;
  readonly idle: number;
}

/** What every run of a cell has in common. */
export interface Load {
  readonly place: Place;
  readonly file: File;
  readonly connections: number;
  readonly seconds: number;
}

/** As many rounds as asked for, the quietest of up to three times as many. */
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

/** Runs every server once. Each round begins with another: none is always the first after a pause. */
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

/** One run, with what it cost the server. */
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

/** Drain does not count what arrives during its warm-up; what that costs is not to count either. */
async function afterWarmUp(server: Server): Promise<ReturnType<typeof clocks>> {
  await new Promise((resolve) => setTimeout(resolve, WARM_UP));
  return clocks(server);
}

/** The time, and the CPU time of a server, in seconds. */
function clocks(server: Server): { readonly time: number; readonly user: number; readonly system: number } {
  return { time: performance.now() / 1000, ...cpuSeconds(server) };
}

/** CPU seconds that the machine has spent on anything but `server` so far. */
function otherWork(server: Server): number {
  const machine = Deno.readTextFileSync("/proc/stat").split("\n")[0].split(/ +/);
  const { user, system } = cpuSeconds(server);
  return sumTicks(machine.slice(1, 4)) - user - system; // user, nice, system
}

/** CPU seconds that `server` has taken so far. */
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

/** The memory that a server holds (VmRSS), or the most that it held (VmHWM), in bytes. */
export function memory(server: Server, field: "VmRSS" | "VmHWM"): number {
  return sum(
    processes(server).map((pid) => {
      const status = Deno.readTextFileSync(`/proc/${pid}/status`);
      return Number(new RegExp(`^${field}:\\s*(\\d+) kB`, "m").exec(status)![1]) * KIB;
    }),
  );
}

/** Lets a server's peak memory begin anew: at what it holds now. */
export function forgetPeak(server: Server): void {
  for (const pid of processes(server)) Deno.writeTextFileSync(`/proc/${pid}/clear_refs`, "5");
}
