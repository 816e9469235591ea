/**
 * How a process starts this program once more, as a worker: under the same runtime, from the same module or compiled
 * binary, with the same flags.
 */
import * as fs from "node:fs";
import process from "node:process";
import { libc, SWITCH } from "../ffi/load.ts";
import { isDeno } from "../runtime.ts";
import { Failure } from "./arguments.ts";
import { VARIABLES } from "./environment.ts";

/** What a worker is there for, and so all that it needs permission for. */
export interface WorkerPlace {
  readonly root: string;
  readonly host: string;
  readonly port: number;
  /** Files beside the root that it reads: those of its certificate. */
  readonly files: readonly string[];
}

/** The arguments for `process.execPath` that start this program. Throws {@link Failure}. */
export function workerCommand(place: WorkerPlace): string[] {
  if (isDeno) return Deno.build.standalone ? compiledByDeno() : denoCommand(place);
  const { isStandaloneExecutable } = (globalThis as { Bun?: { isStandaloneExecutable?: boolean } }).Bun ?? {};
  return isStandaloneExecutable ? [] : [...withoutDebugging(process.execArgv), process.argv[1]];
}

/** Deno shares a port (SO_REUSEPORT) only with this flag, and ends the process where it is missing. */
const UNSTABLE_NET = "--unstable-net";

const RUN = "run";

/** A compiled program has the flags of `deno compile`, and takes none. */
function compiledByDeno(): string[] {
  // Deno has this function only with --unstable-net.
  if ("listenDatagram" in Deno) return [];
  throw new Failure(`workers share a port, for which this program must be compiled with ${UNSTABLE_NET}`, 1);
}

function denoCommand(place: WorkerPlace): string[] {
  const flags = withoutDebugging(ownCommandLine() ?? permittedCommand(place)).filter((flag) =>
    flag !== UNSTABLE_NET
  );
  const module = flags.pop()!;
  // `deno FLAGS MODULE` runs too, but node:child_process takes flags in the first place for those of Node.js.
  const run = flags.indexOf(RUN);
  return [RUN, ...run < 0 ? flags : flags.toSpliced(run, 1), UNSTABLE_NET, module];
}

/**
 * What this process was started with, up to the main module. Only Linux tells that, and Deno only where everything is
 * allowed. `process.argv[1]` will not do: for a remote module it is a placeholder, a file that does not exist.
 */
function ownCommandLine(): string[] | undefined {
  let all: string[];
  try {
    all = fs.readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(1, -1);
  } catch {
    return undefined;
  }
  const end = all.length - Deno.args.length;
  return end > 0 && Deno.args.every((arg, i) => arg === all[end + i]) ? all.slice(0, end) : undefined;
}

/**
 * The main module with what a worker needs of this process's permissions. Flags other than permissions, such as
 * `--config`, cannot be known here: Deno looks for its configuration anew.
 */
function permittedCommand({ root, host, port, files }: WorkerPlace): string[] {
  const c = libc();
  const hostname = host.includes(":") ? `[${host}]` : host;
  return [
    "--no-prompt",
    ...permission("read", [root, fs.realpathSync(root), ...files]),
    // This process has listened there already. Where it asked for port 0 a permission may name that one.
    isGranted({ name: "net" }) ? "--allow-net" : `--allow-net=${hostname}:${port}`,
    `--allow-env=${[SWITCH, ...VARIABLES.values()].join(",")}`, // starting a process needs the permission to read all of them
    ...permission("ffi", typeof c === "string" ? [] : [c.library.path]),
    // Without it the hosts that Deno allows anyway, and the main module's own.
    ...isGranted({ name: "import" }) ? ["--allow-import"] : [],
    Deno.mainModule,
  ];
}

/** The flag for all paths where this process has that, or for those of `paths` that it has. Throws {@link Failure}. */
function permission(name: "read" | "ffi", paths: string[]): string[] {
  if (isGranted({ name })) return [`--allow-${name}`];
  const granted = [...new Set(paths)].filter((path) => isGranted({ name, path }));
  // A comma separates paths, and a doubled one is part of a path.
  return granted.map((path) => `--allow-${name}=${path.replaceAll(",", ",,")}`);
}

function isGranted(descriptor: Deno.PermissionDescriptor): boolean {
  const { state, partial } = Deno.permissions.querySync(descriptor);
  if (state !== "granted") return false;
  if (!partial) return true;
  throw new Failure(
    `workers would be without this process's --deny-${descriptor.name}: the list of a permission cannot be asked for`,
    1,
  );
}

/** Flags that only one process at a time can use, and those by which each worker would load its modules anew. */
const DEBUGGING =
  /^(?:-r|--(?:reload|watch|watch-exclude|hot|hmr|no-clear-screen|inspect(?:-brk|-wait)?|coverage))(?:=|$)/;

function withoutDebugging(flags: string[]): string[] {
  return flags.filter((flag) => !DEBUGGING.test(flag));
}
