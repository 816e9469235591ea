/** The versions of runtimes that are tried, and how they come from npm into a cache outside of the repository. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { homedir } from "node:os";
import process from "node:process";
import { join } from "@std/path";

export type Runtime = "deno" | "bun" | "node";

/** One version of a runtime. */
export interface Version {
  readonly runtime: Runtime;
  readonly version: string;
  /**
   * Where it is not this machine's own: a build for musl, run by Debian's musl; or for arm64, run by qemu. Deno has no
   * build for musl.
   */
  readonly machine?: "musl" | "arm64";
}

/** The last patch of each, and the newest that this was written with. */
export const VERSIONS: readonly Version[] = [
  { runtime: "deno", version: "2.3.7" },
  { runtime: "deno", version: "2.7.14" },
  { runtime: "deno", version: "2.8.3" },
  { runtime: "deno", version: "2.9.6" },
  { runtime: "bun", version: "1.2.23" },
  { runtime: "bun", version: "1.3.14" },
  { runtime: "bun", version: "1.4.5" },
  { runtime: "bun", version: "1.4.5", machine: "musl" },
  { runtime: "bun", version: "1.4.5", machine: "arm64" },
  { runtime: "node", version: "20.20.2" },
  { runtime: "node", version: "22.23.3" },
  { runtime: "node", version: "24.21.0" },
];

/** As texts name them. */
export const SHOWN: Readonly<Record<Runtime, string>> = { deno: "Deno", bun: "Bun", node: "Node.js" };

/** `1.4.5, musl` */
export function titleOf({ version, machine }: Version): string {
  return machine === undefined ? version : `${version}, ${machine}`;
}

/** The npm package that holds the program, and the program's path in it. */
function packageOf(runtime: Runtime, machine?: Version["machine"]): { name: string; program: string } {
  const isArm = process.arch === "arm64" || machine === "arm64";
  switch (runtime) {
    case "deno":
      return { name: `@deno/linux-${process.arch}-glibc`, program: "deno" };
    case "bun":
      return {
        name: `@oven/bun-linux-${isArm ? "aarch64" : "x64"}${machine === "musl" ? "-musl" : ""}`,
        program: "bin/bun",
      };
    case "node":
      return { name: `node-linux-${process.arch}`, program: "bin/node" };
  }
}

/** Where programs and what they download are kept between runs. */
export const CACHE = join(
  process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
  "zerocopy-sendfile-platforms",
);

/**
 * The command of a version's program, which is downloaded where the cache lacks it. Throws where it cannot be had, and
 * {@link NotHereError} where this machine lacks what runs it.
 */
export function commandOf({ runtime, version, machine }: Version): string[] {
  const before = machine === "musl" ? muslCommand() : machine === "arm64" ? armCommand() : [];
  const { name, program } = packageOf(runtime, machine);
  return [...before, join(fetchPackage(name, version), program)];
}

/** This machine lacks a program. */
export class NotHereError extends Error {}

const ARM_LIBRARIES = "/usr/aarch64-linux-gnu";

function armCommand(): string[] {
  if (process.arch === "arm64") return [];
  if (!canRun("qemu-aarch64")) throw new NotHereError("no qemu-aarch64 (Debian: qemu-user)");
  if (!fs.existsSync(ARM_LIBRARIES)) {
    throw new NotHereError(`no ${ARM_LIBRARIES} (Debian: libc6-arm64-cross)`);
  }
  return ["qemu-aarch64", "-L", ARM_LIBRARIES];
}

/**
 * Bun for musl wants a C++ library, which Debian has for glibc alone. musl's loader takes it, if another library adds
 * the few symbols of glibc that it wants besides.
 */
function muslCommand(): string[] {
  if (!canRun("musl-gcc")) throw new NotHereError("no musl-gcc (Debian: musl-tools)");
  const directory = join(CACHE, "musl");
  if (!fs.existsSync(directory)) {
    fs.mkdirSync(CACHE, { recursive: true });
    const half = fs.mkdtempSync(join(CACHE, "half-"));
    const source = join(import.meta.dirname!, "musl.c");
    run("musl-gcc", ["-shared", "-fPIC", "-o", "ld-linux-x86-64.so.2", source], half);
    for (const name of ["libstdc++.so.6", "libgcc_s.so.1"]) {
      fs.copyFileSync(join("/usr/lib/x86_64-linux-gnu", name), join(half, name));
    }
    fs.renameSync(half, directory);
  }
  return ["env", `LD_LIBRARY_PATH=${directory}`];
}

function canRun(program: string): boolean {
  return spawnSync(program, ["--version"]).error === undefined;
}

/** The folder of an unpacked package of npm. */
export function fetchPackage(name: string, version: string): string {
  const directory = join(CACHE, `${name.replace("/", "-")}-${version}`);
  if (fs.existsSync(directory)) return directory;
  fs.mkdirSync(CACHE, { recursive: true });
  const half = fs.mkdtempSync(join(CACHE, "half-"));
  try {
    const archive = run("npm", ["pack", "--silent", `${name}@${version}`], half).trim();
    run("tar", ["xzf", archive], half);
    fs.renameSync(join(half, "package"), directory); // whole, or not at all
  } finally {
    fs.rmSync(half, { recursive: true });
  }
  return directory;
}

/** The newest version on npm. */
export function newest(runtime: Runtime): Version {
  return { runtime, version: run("npm", ["view", packageOf(runtime).name, "version"], ".").trim() };
}

/** Milliseconds for a download. */
const TIMEOUT = 300_000;

function run(program: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd,
    encoding: "utf8",
    timeout: TIMEOUT,
  });
  if (error || status !== 0) {
    throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? stderr.trim()}`);
  }
  return stdout;
}
