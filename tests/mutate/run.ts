/**
 * Changes one line of the source after another, each in a copy of the tree, and says whether the nearest tests notice:
 * `killed` where a test fails on one of the runtimes, `survived` where none does. Ends with an error where a change
 * survives that is not known to be equivalent, or does not fit the source any more (`stale`), or
 * where the tests are `red` without any change.
 *
 *     deno task mutate [--runtime deno|bun] [--every] [--list] [part of a name or file]…
 *
 * `--runtime`: on this one alone. `--every`: each runtime has to notice by itself. `--list`: prints the changes, why
 * they matter and which are stale, and runs nothing.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { fromFileUrl } from "@std/path";
import type { Mutation, Selection } from "./mutation.ts";
import { MUTATIONS } from "./mutations.ts";
import { type Result, run, type RuntimeName, RUNTIMES, stop } from "./runtimes.ts";
import { Tree } from "./tree.ts";

/** Seconds for tests that no change has slowed down yet. */
const BASELINE = 120;

/** A changed line may hold the tests up: so many times as long as without it, and some seconds more. */
const SLOWER = 3;
const SLACK = 10;

/** What was seen of a mutation, in one line. */
type Status = "killed" | "survived" | "equivalent" | "not equivalent" | "stale" | "red" | "broken";

const GOOD: readonly Status[] = ["killed", "equivalent"];

interface Options {
  readonly runtimes: readonly RuntimeName[];
  readonly every: boolean;
  readonly list: boolean;
  readonly parts: readonly string[];
}

function optionsOf(args: string[]): Options {
  const { values: { runtime, every = false, list = false }, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { runtime: { type: "string" }, every: { type: "boolean" }, list: { type: "boolean" } },
  });
  const runtimes = RUNTIMES.filter((name) => runtime === undefined || name === runtime);
  if (runtimes.length === 0) throw new TypeError(`--runtime is deno or bun, not ${runtime}`);
  return { runtimes, every, list, parts: positionals };
}

/** The selected tests on one runtime, before any line was changed. */
class Baselines {
  readonly #tree: Tree;
  readonly #results = new Map<string, Result>();

  constructor(tree: Tree) {
    this.#tree = tree;
  }

  async of(runtime: RuntimeName, tests: Selection): Promise<Result> {
    const key = JSON.stringify([runtime, tests.file, tests.filter]);
    let result = this.#results.get(key);
    if (!result) this.#results.set(key, result = await run(runtime, tests, this.#tree, BASELINE));
    return result;
  }
}

function print(status: Status, { file, name }: Mutation, rest: string): void {
  console.log(`${status.padEnd(10)} ${file}: ${name}  ${rest}`);
}

/** Tries one mutation, and prints what came of it. */
async function attempt(
  mutation: Mutation,
  tree: Tree,
  baselines: Baselines,
  { runtimes, every }: Options,
): Promise<Status | undefined> {
  const stale = tree.staleness(mutation);
  if (stale !== undefined) return say("stale", stale);
  const { tests, only, equivalent } = mutation;
  const here = runtimes.filter((runtime) => only === undefined || only.runtime === runtime);
  if (here.length === 0) return undefined;
  const limits = new Map<RuntimeName, number>();
  for (const runtime of here) {
    const { verdict, failure, seconds, output } = await baselines.of(runtime, tests);
    if (verdict !== "passed") {
      return say("red", `without any change, on ${runtime}, ${verdict}: ${failure}\n${output.slice(-2000)}`);
    }
    limits.set(runtime, SLACK + SLOWER * seconds);
  }
  const killers: string[] = [];
  const survivors: RuntimeName[] = [];
  let broken = "";
  await tree.with(mutation, async () => {
    for (const runtime of here) {
      const { verdict, failure, seconds, output } = await run(
        runtime,
        tests,
        tree,
        limits.get(runtime)!,
      );
      if (verdict === "broken") broken = output.slice(-2000);
      else if (verdict === "passed") survivors.push(runtime);
      else {
        killers.push(`${runtime} ${seconds.toFixed(1)} s: ${verdict === "hung" ? "hung" : failure}`);
        if (!every) return;
      }
    }
  });
  if (broken) return say("broken", `no test ran:\n${broken}`);
  if (survivors.length === 0 || (killers.length > 0 && !every)) {
    return say(equivalent === undefined ? "killed" : "not equivalent", killers.join("; "));
  }
  if (equivalent !== undefined) return say("equivalent", equivalent);
  return say("survived", `on ${survivors.join(" and ")}: ${[mutation.why, ...killers].join("; ")}`);

  function say(status: Status, rest: string): Status {
    print(status, mutation, rest);
    return status;
  }
}

/** Prints the mutations and why they matter; fails where one is stale. */
function list(wanted: readonly Mutation[], tree: Tree): void {
  for (const mutation of wanted) {
    const { file, name, why } = mutation;
    const stale = tree.staleness(mutation);
    if (stale !== undefined) process.exitCode = 1;
    console.log(`${file}: ${name}\n    ${stale === undefined ? why : `STALE: ${stale}`}`);
  }
  console.log(`${wanted.length} mutations`);
  tree.remove();
}

async function main(options: Options): Promise<void> {
  const wanted = MUTATIONS.filter(({ name, file }) =>
    options.parts.length === 0 || options.parts.some((part) => name.includes(part) || file.includes(part))
  );
  const names = new Set(wanted.map(({ file, name }) => `${file} ${name}`));
  if (names.size < wanted.length) throw new Error("two mutations of one file have the same name");
  const began = performance.now();
  const tree = new Tree(fromFileUrl(new URL("../..", import.meta.url)));
  if (options.list) return list(wanted, tree);
  const leave = () => {
    stop(); // in groups of their own, the tests are not told of a ^C
    tree.remove();
    process.exit(1);
  };
  process.once("SIGINT", leave).once("SIGTERM", leave);
  const seen: Status[] = [];
  try {
    const baselines = new Baselines(tree);
    for (const mutation of wanted) {
      const status = await attempt(mutation, tree, baselines, options);
      if (status !== undefined) seen.push(status);
    }
  } finally {
    tree.remove();
  }
  const counts = [...new Set(seen)].map((status) => `${seen.filter((s) => s === status).length} ${status}`);
  const seconds = Math.round((performance.now() - began) / 1000);
  console.log(`${counts.join(", ") || "nothing to do"} of ${wanted.length} mutations in ${seconds} s`);
  process.exitCode = seen.every((status) => GOOD.includes(status)) ? 0 : 1;
}

await main(optionsOf(process.argv.slice(2)));
