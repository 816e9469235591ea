/** How a process starts this program again as a worker: with the same runtime, module or compiled binary, and flags. */
import * as fs from "node:fs";
import process from "node:process";
import { libc, SWITCH } from "../ffi/load.ts";
import { isDeno } from "../runtime.ts";
import { Failure } from "./arguments.ts";
import { VARIABLES } from "./environment.ts";

/** What a worker serves, which determines the permissions that it needs. */
export interface WorkerPlace {
  readonly root: string;
  readonly host: string;
  readonly port: number;
  /** Files outside of the root that it reads: certificate and key. */
  readonly files: readonly string[];
}

/** The arguments for `process.execPath` that start this program. Throws {@link Failure}. */
export function workerCommand(place: WorkerPlace): string[] {
  if (isDeno) return Deno.build.standalone ? compiledByDeno() : denoCommand(place);
  const { isStandaloneExecutable } = (globalThis as { Bun?: { isStandaloneExecutable?: boolean } }).Bun ?? {};
  return isStandaloneExecutable ? [] : [...withoutDebugging(process.execArgv), process.argv[1]];
}

/** Deno shares a port (SO_REUSEPORT) only with this flag, and exits without it. */
const UNSTABLE_NET = "--unstable-net";

const RUN = "run";

/** The flags of a compiled program are fixed by `deno compile`; it accepts none. */
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
  // `deno FLAGS MODULE` works too, but node:child_process interprets leading flags as those of Node.js.
  const run = flags.indexOf(RUN);
  return [RUN, ...run < 0 ? flags : flags.toSpliced(run, 1), UNSTABLE_NET, module];
}

/**
 * The command line of this process, up to the main module. Available only on Linux, and in Deno only with
 * --allow-all. `process.argv[1]` cannot be used: for a remote module it is a placeholder path that does not exist.
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
 * The main module, with those of this process's permissions that a worker needs. Other flags, such as `--config`, are
 * not known here: Deno searches for its configuration again.
 */
function permittedCommand({ root, host, port, files }: WorkerPlace): string[] {
  const c = libc();
  const hostname = host.includes(":") ? `[${host}]` : host;
  return [
    "--no-prompt",
    ...permission("read", [root, fs.realpathSync(root), ...files]),
    // This process has already listened there, so it has the permission. If it asked for port 0, the permission may
    // name port 0.
    isFullyGranted({ name: "net" }) ? "--allow-net" : `--allow-net=${hostname}:${port}`,
    `--allow-env=${[SWITCH, ...VARIABLES.values()].join(",")}`, // starting a process requires permission to read all of them
    ...permission("ffi", typeof c === "string" ? [] : [c.library.path]),
    // Without the flag Deno allows its default hosts and the host of the main module.
    ...isFullyGranted({ name: "import" }) ? ["--allow-import"] : [],
    Deno.mainModule,
  ];
}

/**
 * The flag for all paths if this process has that permission, otherwise for those of `paths` that are granted. Throws
 * {@link Failure}.
 */
function permission(name: "read" | "ffi", paths: string[]): string[] {
  if (isFullyGranted({ name })) return [`--allow-${name}`];
  const granted = [...new Set(paths)].filter((path) => isFullyGranted({ name, path }));
  // A comma separates paths; a comma in a path is doubled.
  return granted.map((path) => `--allow-${name}=${path.replaceAll(",", ",,")}`);
}

function isFullyGranted(descriptor: Deno.PermissionDescriptor): boolean {
  const { state, partial } = Deno.permissions.querySync(descriptor);
  if (state !== "granted") return false;
  if (!partial) return true;
  throw new Failure(
    `workers would not have this process's --deny-${descriptor.name}: the list of a permission cannot be read`,
    1,
  );
}

/** Flags that only one process at a time can use, and flags that would make each worker reload its modules. */
const DEBUGGING =
  /^(?:-r|--(?:reload|watch|watch-exclude|hot|hmr|no-clear-screen|inspect(?:-brk|-wait)?|coverage))(?:=|$)/;

function withoutDebugging(flags: string[]): string[] {
  return flags.filter((flag) => !DEBUGGING.test(flag));
}
