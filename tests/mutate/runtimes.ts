/** Runs some tests on one runtime, and tells what came of them. */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { findBun } from "../support/find_bun.ts";
import type { Selection } from "./mutation.ts";
import type { Tree } from "./tree.ts";

export type RuntimeName = "deno" | "bun";

export const RUNTIMES: readonly RuntimeName[] = ["deno", "bun"];

/** `failed`: a test failed, or the process ended by a signal; `hung`: it took too long; `broken`: no test ran. */
export type Verdict = "passed" | "failed" | "hung" | "broken";

export interface Result {
  readonly verdict: Verdict;
  /** The first test that failed; or the signal. */
  readonly failure: string;
  readonly seconds: number;
  readonly output: string;
}

function commandOf(runtime: RuntimeName, { file, filter }: Selection): [program: string, args: string[]] {
  const path = `./tests/${file}`;
  if (runtime === "deno") {
    const args = ["test", "-A", "--no-check", "--node-modules-dir=none", "--fail-fast", path];
    if (filter !== undefined) args.push("--filter", `/${filter.replaceAll("/", "\\/")}/`);
    return [process.execPath, args];
  }
  const args = ["test", "--bail", path];
  if (filter !== undefined) args.push("-t", filter);
  return [findBun(), args];
}

/** The name of a test that failed, in what the runtime prints without colours. */
const FAILED: Record<RuntimeName, RegExp> = {
  deno: /^(?:.* \.\.\. )?(.*?)(?: \.\.\.)? FAILED\b/m,
  bun: /^\(fail\) (.*?)(?: \[[\d.]+m?s\])?$/m,
};

/** How many tests passed. */
const PASSED: Record<RuntimeName, RegExp> = {
  deno: /\| (\d+) passed \|/,
  bun: /^ *(\d+) pass$/m,
};

/** What is printed once the file of the tests could be loaded. */
const STARTED: Record<RuntimeName, RegExp> = {
  deno: /^running \d+ tests? from/m,
  bun: /^\((?:pass|fail)\) /m,
};

/** Kills all that a command has started: tests start servers and clients of their own. */
function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // all of it has ended
  }
}

let running: ChildProcess | undefined;

/** Ends the tests that run at this moment. */
export function stop(): void {
  if (running) killGroup(running);
}

/** Runs the selected tests in a tree, for at most `limit` seconds. */
export async function run(
  runtime: RuntimeName,
  tests: Selection,
  tree: Tree,
  limit: number,
): Promise<Result> {
  const [program, args] = commandOf(runtime, tests);
  const began = performance.now();
  const child = spawn(program, args, {
    cwd: tree.path,
    env: { ...process.env, NO_COLOR: "1", TMPDIR: tree.temporary },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  running = child;
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => output += chunk);
  let hung = false;
  const timer = setTimeout(() => {
    hung = true;
    killGroup(child);
  }, limit * 1000);
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve([code, signal]));
  }).finally(() => clearTimeout(timer));
  killGroup(child);
  running = undefined;
  const seconds = (performance.now() - began) / 1000;
  const failure = FAILED[runtime].exec(output)?.[1] ?? signal ?? "";
  const passed = Number(PASSED[runtime].exec(output)?.[1] ?? 0);
  return { verdict: verdictOf(), failure, seconds, output };

  function verdictOf(): Verdict {
    if (hung) return "hung";
    if (code === 0) return passed > 0 ? "passed" : "broken";
    return failure === "" || !STARTED[runtime].test(output) ? "broken" : "failed";
  }
}
