/** Prints the figures: tables, and which goals are reached. */
import { median, printRow, QUIET } from "./numbers.ts";

/** One size with one number of connections, over one link, under one congestion control. */
export interface Cell {
  readonly link: string;
  /** The congestion control that the servers' sockets really use, the requested one, and how it was set. */
  readonly congestion: string;
  readonly congestionAsked: string;
  readonly congestionSetBy: string | null;
  readonly congestionOfClient: string;
  readonly label: string;
  readonly size: number;
  readonly connections: number;
  /** The share of a core that other work took, and the share of the time that the client was idle. */
  readonly otherWork: number;
  readonly clientIdle: number;
  readonly servers: Readonly<Record<string, Figures>>;
}

/** The figures of one server, by round; latencies in microseconds, memory in bytes. */
export interface Figures {
  readonly requestsPerSecond: readonly number[];
  readonly bytesPerSecond: readonly number[];
  readonly userSecondsPerGB: readonly number[];
  readonly systemSecondsPerGB: readonly number[];
  readonly p50: readonly (number | null)[];
  readonly p99: readonly (number | null)[];
  readonly memory: readonly number[];
  readonly peakMemory: number;
}

/** A ratio of requests per second that we want to reach. */
export interface Goal {
  readonly server: string;
  readonly base: string;
  readonly ratio: number;
  readonly at: (size: number) => boolean;
  /** The congestion control that the goal is limited to. */
  readonly under?: string;
}

export interface Verdict {
  readonly server: string;
  readonly base: string;
  readonly link: string;
  readonly congestion: string;
  readonly label: string;
  readonly goal: number;
  readonly median: number;
  readonly least: number;
  readonly most: number;
  /** The ratio of CPU seconds per byte, which is not a goal but less noisy. */
  readonly cpu: number;
  readonly met: boolean;
}

export function printCell(
  { link, congestion, label, servers, clientIdle, otherWork }: Cell,
  base: string,
): void {
  console.log(`\n${label}, ${link}, ${congestion}`);
  printRow([
    "",
    "req/s",
    "GB/s",
    "user s/GB",
    "sys s/GB",
    "p50 ms",
    "p99 ms",
    "MB now",
    "MB peak",
    `/ ${base}`,
  ]);
  for (const [name, figures] of Object.entries(servers)) {
    const perSecond = median(figures.requestsPerSecond);
    const ratios = servers[base] && ratiosOf(figures.requestsPerSecond, servers[base].requestsPerSecond);
    printRow([
      name,
      perSecond.toFixed(perSecond < 1000 ? 1 : 0),
      (median(figures.bytesPerSecond) / 1e9).toFixed(2),
      median(figures.userSecondsPerGB).toFixed(3),
      median(figures.systemSecondsPerGB).toFixed(3),
      shownLatency(figures.p50),
      shownLatency(figures.p99),
      shownMemory(median(figures.memory)),
      shownMemory(figures.peakMemory),
      ratios ? median(ratios).toFixed(2) : "-",
    ]);
  }
  if (clientIdle < 0.1) {
    console.log("  (the client was busy nearly all the time: it may have been the limit)");
  }
  if (otherWork >= QUIET) {
    console.log(`  (other work took up to ${Math.round(otherWork * 100)} % of a core: noise)`);
  }
}

/** Whether the goals are reached, in the cells that have both servers. */
export function judge(goals: readonly Goal[], cells: readonly Cell[]): Verdict[] {
  return goals.flatMap(({ server, base, ratio, at, under }) =>
    cells.flatMap(({ link, congestion, label, size, servers }) => {
      const [ours, theirs] = [servers[server], servers[base]];
      if (!ours || !theirs || !at(size) || (under !== undefined && under !== congestion)) return [];
      const ratios = ratiosOf(ours.requestsPerSecond, theirs.requestsPerSecond);
      const middle = median(ratios);
      return [{
        server,
        base,
        link,
        congestion,
        label,
        goal: ratio,
        median: middle,
        least: Math.min(...ratios),
        most: Math.max(...ratios),
        cpu: median(ratiosOf(costsOf(ours), costsOf(theirs))),
        met: middle >= ratio,
      }];
    })
  );
}

export function printGoals(verdicts: readonly Verdict[]): void {
  if (verdicts.length === 0) return;
  console.log("\ngoals (the median of the ratios, and their range; CPU: seconds per byte, as a ratio)");
  for (const { server, base, link, congestion, label, goal, median, least, most, cpu, met } of verdicts) {
    const where = `${server} / ${base}`.padEnd(30) + `${link} ${congestion}`.padEnd(16) + label.padEnd(14);
    const range = `${median.toFixed(2)} (${least.toFixed(2)} to ${most.toFixed(2)})`;
    console.log(
      `  ${where}>= ${String(goal).padEnd(6)}${met ? "met    " : "NOT MET"} ${range}, CPU ${cpu.toFixed(2)}`,
    );
  }
}

/** CPU seconds per GB, user and system together. */
export function costsOf({ userSecondsPerGB, systemSecondsPerGB }: Figures): number[] {
  return userSecondsPerGB.map((user, i) => user + systemSecondsPerGB[i]);
}

/** The ratio of each round. */
export function ratiosOf(figures: readonly number[], bases: readonly number[]): number[] {
  return figures.map((figure, i) => figure / bases[i]);
}

function shownLatency(values: readonly (number | null)[]): string {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? "-" : (median(known) / 1000).toFixed(3);
}

function shownMemory(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
