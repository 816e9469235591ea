/** Shared parts of the benchmarks: temporary directories, child processes, and their cleanup. */
import { KIB } from "./numbers.ts";
import { isIsolated, runIsolated } from "./namespace.ts";

export interface File {
  readonly name: string;
  readonly path: string;
  readonly body: Uint8Array;
}

/** The directories of a benchmark. */
export interface Place {
  /** Compiled programs and other files that servers need. */
  readonly programs: string;
  /** The files that are served. */
  readonly data: string;
  /** The medium of `data`, as text. */
  readonly medium: string;
}

/** Ends every child process when the benchmark ends. */
const stop = new AbortController();
const statuses: Promise<Deno.CommandStatus>[] = [];

/** Aborted when the benchmark ends. */
export const { signal } = stop;

/** The environment variable with the {@link Place}, in JSON, that the parent has created for the isolated benchmark. */
const PLACE = "BENCH_PLACE";

/**
 * Runs a benchmark in its own network namespaces if possible, then ends its children, removes its files and exits.
 * Without `isolate` it runs in the current namespace.
 */
export async function runBenchmark(
  name: string,
  body: (place: Place) => Promise<void>,
  { isolate = true } = {},
): Promise<never> {
  const place: Place = isIsolated ? JSON.parse(Deno.env.get(PLACE)!) : makePlace(name);
  try {
    const code = isIsolated || !isolate ? undefined : await runIsolated({ [PLACE]: JSON.stringify(place) });
    if (code !== undefined) Deno.exitCode = code;
    else await runHere(() => body(place));
  } finally {
    // Both parent and child remove them, because either may be killed.
    for (const directory of [place.programs, place.data]) remove(directory);
  }
  Deno.exit(); // the signal listeners would keep the process alive
}

async function runHere(body: () => Promise<void>): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => stop.abort());
  if (isIsolated) void stopWithParent();
  try {
    if (navigator.hardwareConcurrency < 2) throw new Error("server and client need a core each");
    await body();
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    console.error("stopped");
    Deno.exitCode = 130;
  } finally {
    stop.abort();
    await Promise.all(statuses);
  }
}

function makePlace(name: string): Place {
  const tmpfs = isDirectory("/dev/shm");
  const prefix = `bench-${name}-`;
  const programs = Deno.makeTempDirSync({ prefix });
  const data = Deno.makeTempDirSync({ prefix, dir: tmpfs ? "/dev/shm" : undefined });
  return { programs, data, medium: tmpfs ? "tmpfs (/dev/shm)" : `disk (${data})` };
}

function remove(directory: string): void {
  try {
    Deno.removeSync(directory, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Stops the benchmark when the parent ends: the parent holds the other end of stdin, which the kernel then closes. */
async function stopWithParent(): Promise<void> {
  for await (const _ of Deno.stdin.readable);
  stop.abort();
}

export interface SpawnOptions {
  readonly env?: Record<string, string>;
  readonly stdin?: "null" | "piped";
  readonly stdout?: "null" | "piped";
  readonly signal?: AbortSignal;
}

/** Starts a program that ends with the benchmark, or with `signal`. */
export function spawn(command: readonly string[], options: SpawnOptions = {}): Deno.ChildProcess {
  const child = new Deno.Command(command[0], {
    args: command.slice(1),
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
    ...options,
    signal: options.signal ? AbortSignal.any([stop.signal, options.signal]) : stop.signal,
  }).spawn();
  statuses.push(child.status);
  return child;
}

/** Runs a program and returns its output. */
export async function run(command: readonly string[]): Promise<string> {
  const [program, ...args] = command;
  const { success, stdout } = await new Deno.Command(program, { args, stderr: "inherit", signal }).output();
  signal.throwIfAborted();
  if (!success) throw new Error(`failed: ${command.join(" ")}`);
  return new TextDecoder().decode(stdout);
}

/** Runs a program that may fail, and returns its output including stderr. Undefined if there is no such program. */
export async function attempt(
  command: readonly string[],
): Promise<{ readonly success: boolean; readonly text: string } | undefined> {
  const [program, ...args] = command;
  try {
    const { success, stdout, stderr } = await new Deno.Command(program, { args, signal }).output();
    const decoder = new TextDecoder();
    return { success, text: (decoder.decode(stdout) + decoder.decode(stderr)).trim() };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  } finally {
    signal.throwIfAborted();
  }
}

/** Compiles a C program of this directory. */
export async function compile({ programs }: Place, name: string): Promise<void> {
  await run(["cc", "-O2", "-Wall", "-Wextra", "-o", `${programs}/${name}`, local(`${name}.c`)]);
}

export function makeFile({ data }: Place, size: number): File {
  const body = new Uint8Array(size);
  // Random, so that no two parts are equal; the call takes at most 64 KiB.
  for (let at = 0; at < size; at += 64 * KIB) crypto.getRandomValues(body.subarray(at, at + 64 * KIB));
  const name = `${size}.bin`;
  const path = `${data}/${name}`;
  Deno.writeFileSync(path, body);
  return { name, path, body };
}

/** The Bun of this checkout, or the one in PATH. */
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
