/**
 * A benchmark: contenders measured over links, under congestion controls, by file size and number of connections.
 *
 *   --seconds 1.5                length of one run
 *   --rounds 3                   runs of each server for each cell
 *   --sizes 4K,64K,1M,100M
 *   --connections 16
 *   --only NAME[,NAME]           these servers, and the one that ratios refer to
 *   --link loopback[,veth]       veth: two namespaces, joined by a pair of devices with an MTU of 1500
 *   --congestion cubic,bbr       the congestion controls, one after the other
 *   --json FILE                  all figures, of every round
 *
 * Tables show medians. "user" and "system" are CPU seconds of the server's processes per GB, p50 and p99 latencies in
 * milliseconds, from the request to the last byte of the response; "MB now" is the memory of the processes after the
 * last run of a cell, "MB peak" their most during the cell. A ratio is the median of the rounds' ratios.
 */
import { parseArgs } from "node:util";
import * as harness from "./harness.ts";
import type { File, Place } from "./harness.ts";
import { congestionByPort, type Link, LINKS, type Means, openLink, setCongestion } from "./link.ts";
import { drain, forgetPeak, measureRounds, memory } from "./measure.ts";
import { isIsolated } from "./namespace.ts";
import { parseSize, positive, shownSize } from "./numbers.ts";
import { type Cell, type Goal, judge, printCell, printGoals } from "./report.ts";
import {
  check,
  type Contender,
  HEAD_TOLERANCE,
  type Program,
  type Server,
  type Shape,
  startAll,
} from "./servers.ts";

/** Length in seconds of the run that shows which congestion control the client's sockets use. */
const GLANCE = 0.05;

export interface Benchmark {
  readonly name: string;
  /** In the order of a round: contenders whose ratio is a goal are neighbours. */
  readonly contenders: readonly Contender[];
  /** The contender that ratios refer to; it always takes part. */
  readonly base: string;
  readonly goals: readonly Goal[];
  /** Programs to compile besides drain. */
  readonly compile?: readonly string[];
  /** The header fields that every server is to send, in lower case. */
  readonly fields: readonly string[];
  /** The exact head of a response with a body of `size` bytes, if every server sends the same. */
  readonly head?: (size: number) => Uint8Array;
  /** The contenders that take part without `--only`; all by default. */
  readonly usual?: readonly string[];
  readonly connections: string;
}

/** The congestion control of a cell. */
interface Congestion {
  readonly asked: string;
  readonly means: Means;
  /** The congestion control of the client's and of the servers' sockets; the latter is unknown without `ss`. */
  readonly client: string;
  readonly server: string | null;
}

interface Present {
  readonly contender: Contender;
  readonly program: string;
}

interface Options {
  readonly seconds: number;
  readonly rounds: number;
  readonly sizes: readonly number[];
  readonly connections: readonly number[];
  readonly only: readonly string[];
  readonly links: readonly Link["name"][];
  readonly congestions: readonly string[];
  readonly json?: string;
}

export async function runMatrix(benchmark: Benchmark, args: string[]): Promise<never> {
  const options = parse(benchmark, args);
  // Checks that the file can be written before an hour of measuring.
  if (options.json !== undefined) Deno.writeTextFileSync(options.json, "");
  return await harness.runBenchmark(benchmark.name, (place) => measureAll(benchmark, options, place));
}

function parse(benchmark: Benchmark, args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      seconds: { type: "string", default: "1.5" },
      rounds: { type: "string", default: "3" },
      sizes: { type: "string", default: "4K,64K,1M,100M" },
      connections: { type: "string", default: benchmark.connections },
      only: { type: "string" },
      link: { type: "string", default: "loopback" },
      congestion: { type: "string", default: "cubic,bbr" },
      json: { type: "string" },
    },
  });
  const names = benchmark.contenders.map(({ name }) => name);
  return {
    seconds: positive("seconds", values.seconds),
    rounds: positive("rounds", values.rounds),
    sizes: values.sizes.split(",").map(parseSize),
    connections: values.connections.split(",").map((text) => positive("connections", text)),
    only: values.only ? oneOf("only", values.only, names) : benchmark.usual ?? names,
    links: oneOf("link", values.link, LINKS),
    congestions: values.congestion.split(","),
    json: values.json,
  };
}

/** Parses a list of names, each of which must be known. */
function oneOf<Name extends string>(option: string, list: string, known: readonly Name[]): Name[] {
  return list.split(",").map((text) => {
    const name = known.find((name) => name.toLowerCase() === text.toLowerCase());
    if (name === undefined) throw new TypeError(`--${option} takes ${known.join(", ")}, not ${text}`);
    return name;
  });
}

async function measureAll(benchmark: Benchmark, options: Options, place: Place): Promise<void> {
  await Promise.all(["drain", ...benchmark.compile ?? []].map((name) => harness.compile(place, name)));
  const files = options.sizes.map((size) => harness.makeFile(place, size));
  const { present, versions, skipped } = await findAll(benchmark, options);
  console.log(`files on ${place.medium}, ${options.rounds} rounds of ${options.seconds} s`);
  const cells: Cell[] = [];
  const heads: Record<string, Record<string, Record<string, Shape>>> = {};
  for (const name of options.links) {
    const link = await openLink(name);
    if (!link) continue;
    const smallest = files.reduce((least, file) => file.body.length < least.body.length ? file : least);
    const servers = await startAll(present, { place, link }, smallest);
    for (const server of servers) {
      for (const file of files) await check(server, file, benchmark.head?.(file.body.length));
    }
    console.log(`\nover ${link.what}: every server sent every file correctly, byte for byte`);
    heads[name] = Object.fromEntries(servers.map(({ name, shapes }) => [name, shapesBySize(shapes)]));
    printHeads(heads[name], benchmark.fields);
    for await (const congestion of congestionsOf(link, options, place, servers, smallest)) {
      for (const file of files) {
        for (const connections of options.connections) {
          const cell = await measureCell(place, link, congestion, servers, file, connections, options);
          printCell(cell, benchmark.base);
          cells.push(cell);
        }
      }
    }
    for (const server of servers) await server.end();
  }
  const verdicts = judge(benchmark.goals, cells);
  printGoals(verdicts);
  if (options.json === undefined) return;
  const machine = {
    kernel: Deno.osRelease(),
    arch: Deno.build.arch,
    cores: navigator.hardwareConcurrency,
    isolated: isIsolated,
  };
  const { seconds, rounds } = options;
  const report = {
    benchmark: benchmark.name,
    date: new Date().toISOString(),
    machine,
    medium: place.medium,
    seconds,
    rounds,
    versions,
    skipped,
    heads,
    cells,
    goals: verdicts,
  };
  Deno.writeTextFileSync(options.json, JSON.stringify(report, null, 2) + "\n");
  console.log(`\nall figures: ${options.json}`);
}

/** Finds the requested contenders, and prints which will run and which this machine lacks. */
async function findAll({ contenders, base }: Benchmark, { only }: Options) {
  const present: Present[] = [];
  const skipped: string[] = [];
  const versions: Record<string, string> = { deno: Deno.version.deno };
  for (const contender of contenders.filter(({ name }) => name === base || only.includes(name))) {
    const { name, what, needs } = contender;
    const program: Program | undefined = needs ? await needs.find() : { path: Deno.execPath(), version: "" };
    if (program) present.push({ contender, program: program.path });
    else skipped.push(name);
    if (needs && program) versions[needs.name] = program.version;
    console.log(`${name.padEnd(16)}${what}${program ? "" : ` - SKIPPED: there is no ${needs!.name}`}`);
  }
  if (present.length === 0) throw new Error("there is no server to measure");
  return { present, versions, skipped };
}

/** The shapes of a server's responses, by the smallest size that has that shape. */
function shapesBySize(shapes: ReadonlyMap<File, Shape>): Record<string, Shape> {
  const bySize = [...shapes].sort(([a], [b]) => a.body.length - b.body.length);
  // A longer Content-Length makes every head longer by a byte or two, which is no difference.
  const differs = (shape: Shape, before?: Shape) =>
    before?.fields.toSorted().join() !== shape.fields.toSorted().join() ||
    Math.abs(shape.head - before.head) > HEAD_TOLERANCE;
  return Object.fromEntries(
    bySize.filter(([, shape], i) => differs(shape, bySize[i - 1]?.[1]))
      .map(([{ body }, shape]) => [shownSize(body.length), shape]),
  );
}

/** Prints what the heads have in common and how they differ: figures are comparable only if heads are alike. */
function printHeads(heads: Readonly<Record<string, Record<string, Shape>>>, fields: readonly string[]): void {
  console.log(`every head has ${fields.join(", ")}, except as listed here; its length in bytes:`);
  for (const [name, shapes] of Object.entries(heads)) {
    for (const [size, { head, fields: own }] of Object.entries(shapes)) {
      const missing = fields.filter((field) => !own.includes(field)).map((field) => `-${field}`);
      const more = own.filter((field) => !fields.includes(field)).map((field) => `+${field}`);
      console.log(
        `  ${name.padEnd(16)}${String(head).padStart(4)} from ${[size, ...missing, ...more].join(" ")}`,
      );
    }
  }
}

/** Sets the congestion controls one after the other, and prints which one the sockets really use. */
async function* congestionsOf(
  link: Link,
  { congestions }: Options,
  place: Place,
  servers: readonly Server[],
  file: File,
): AsyncGenerator<Congestion> {
  const seen = new Set<string>();
  for (const asked of congestions) {
    const { means, complaint } = await setCongestion(link, asked);
    const { congestion: client } = await drain(servers[0], { place, file, connections: 1, seconds: GLANCE });
    const server = await congestionOf(link, servers, file);
    const used = server ?? client;
    const ends = `the client's sockets use ${client}, the servers' ${server ?? "an unknown one (no ss)"}`;
    if (used === asked && client === asked) {
      console.log(
        `\n${link.name}, ${asked}: ${means === undefined ? "as it was" : `set by ${means}`}; ${ends}`,
      );
    } else {
      console.log(`\n${link.name}, ${asked} could NOT be set (${complaint ?? `by ${means}`}): ${ends}`);
    }
    if (seen.has(used)) {
      console.log(`  measured before under ${used}: skipped`);
      continue;
    }
    seen.add(used);
    yield { asked, means, client, server };
  }
}

/** The congestion control of the servers' sockets; null if unknown. */
async function congestionOf(
  link: Link,
  servers: readonly Server[],
  { name }: File,
): Promise<string | null> {
  const conns: Deno.Conn[] = [];
  try {
    for (const { host, port } of servers) {
      const conn = await Deno.connect({ hostname: host, port });
      conns.push(conn);
      // With TCP_DEFER_ACCEPT, which Bun sets, the server's socket exists only after the client has sent something.
      await conn.write(new TextEncoder().encode(`GET /${name} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`));
      await conn.read(new Uint8Array(1));
    }
    const byPort = await congestionByPort(link);
    if (byPort.size === 0) return null;
    const found = new Set(servers.map(({ port, name }) => byPort.get(port) ?? `unknown (${name})`));
    return [...found].join(" and ");
  } finally {
    for (const conn of conns) conn.close();
  }
}

/** Measures all servers at one size. */
async function measureCell(
  place: Place,
  link: Link,
  { asked, means, client, server }: Congestion,
  servers: readonly Server[],
  file: File,
  connections: number,
  { rounds, seconds }: Options,
): Promise<Cell> {
  servers.forEach(forgetPeak);
  const measured = await measureRounds(servers, rounds, { place, file, connections, seconds });
  const strange = measured.flatMap(({ runs }) => runs).find(({ congestion }) => congestion !== client);
  if (strange) throw new Error(`the client's sockets use ${strange.congestion} instead of ${client}`);
  const figures = servers.map((server, i) => {
    const runs = measured.map((round) => round.runs[i]);
    const cost = (seconds: number, bytes: number) => seconds / bytes * 1e9;
    return [server.name, {
      requestsPerSecond: runs.map(({ bytes, seconds }) => bytes / server.shapes.get(file)!.whole / seconds),
      bytesPerSecond: runs.map(({ bytes, seconds }) => bytes / seconds),
      userSecondsPerGB: runs.map(({ user, seconds, bytes }) => cost(user * seconds, bytes)),
      systemSecondsPerGB: runs.map(({ system, seconds, bytes }) => cost(system * seconds, bytes)),
      p50: runs.map(({ p50 }) => p50),
      p99: runs.map(({ p99 }) => p99),
      memory: runs.map(({ memory }) => memory),
      peakMemory: memory(server, "VmHWM"),
    }] as const;
  });
  return {
    link: link.name,
    congestion: server ?? client,
    congestionAsked: asked,
    congestionSetBy: means ?? null,
    congestionOfClient: client,
    label: `${shownSize(file.body.length)} x ${connections}`,
    size: file.body.length,
    connections,
    otherWork: Math.max(...measured.map(({ others }) => others)),
    clientIdle: Math.min(...measured.map(({ idle }) => idle)),
    servers: Object.fromEntries(figures),
  };
}
