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
  { runtime: "node", version: "20.20.2" },
  { runtime: "node", version: "22.23.3" },
  { runtime: "node", version: "24.21.0" },
];

/** As texts name them. */
export const SHOWN: Readonly<Record<Runtime, string>> = { deno: "Deno", bun: "Bun", node: "Node.js" };

/** The npm package that holds the program for this machine, and the program's path in it. */
function packageOf(runtime: Runtime): { name: string; program: string } {
  const isArm = process.arch === "arm64";
  switch (runtime) {
    case "deno":
      return { name: `@deno/linux-${process.arch}-glibc`, program: "deno" };
    case "bun":
      return { name: `@oven/bun-linux-${isArm ? "aarch64" : "x64"}`, program: "bin/bun" };
    case "node":
      return { name: `node-linux-${process.arch}`, program: "bin/node" };
  }
}

/** Where programs and what they download are kept between runs. */
export const CACHE = join(
  process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
  "zerocopy-sendfile-platforms",
);

/** The path of a version's program, which is downloaded where the cache lacks it. Throws where it cannot be had. */
export function programOf({ runtime, version }: Version): string {
  const { name, program } = packageOf(runtime);
  return join(fetchPackage(name, version), program);
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
