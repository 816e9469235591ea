/** An example in a process of its own, started by its command in examples/README.md. */
import { resolve } from "@std/path";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { isBun } from "./harness.ts";
import { until } from "./site.ts";

const ROOT = resolve(import.meta.dirname!, "../..");
export const EXAMPLES = resolve(ROOT, "examples");

/** The commands by the names of the examples, with the names of their arguments. */
export const COMMANDS: ReadonlyMap<string, string> = new Map(
  [
    ...fs.readFileSync(resolve(EXAMPLES, "README.md"), "utf8").matchAll(
      /^\| \[(\w+)\.ts\]\(\1\.ts\) +\| [^|]+ \| `([^`]+)` +\|$/gm,
    ),
  ].map(([, name, command]) => [name, command]),
);

/** What is run on this runtime: the runtime's arguments and the path of the example. */
function commandOf(name: string): string[] {
  const [, deno, bun, path] =
    /^(?:(deno run -A)(?: \(or (bun)\))?|bun) (examples\/\w+\.ts)( |$)/.exec(COMMANDS.get(name) ?? "") ?? [];
  if (path === undefined || (isBun ? deno && !bun : !deno)) throw new Error(`no command for ${name}`);
  return isBun ? [path] : [...deno.split(" ").slice(1), path];
}

export class Example {
  readonly child: ChildProcess;
  output = "";
  /** The exit code, once all of its output has been read. */
  code: number | null | undefined;

  constructor(name: string, ...args: string[]) {
    this.child = spawn(process.execPath, [...commandOf(name), ...args], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, CI: "" }, // where it is set, @clack/prompts draws no bar
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on("data", (chunk) => this.output += chunk);
    }
    this.child.once("close", (code) => this.code = code);
  }

  /** What the first group of `pattern` is in the output from a length on, once there is a match. */
  async printed(pattern: RegExp, since = 0): Promise<string> {
    try {
      return await until(() => {
        const hasEnded = this.code !== undefined;
        const found = pattern.exec(this.output.slice(since))?.[1];
        if (found === undefined && hasEnded) throw new Error(`it ended without ${pattern}`);
        return found;
      }, `${pattern}`);
    } catch (error) {
      throw new Error(`${(error as Error).message} in ${JSON.stringify(this.output)}`);
    }
  }

  async port(): Promise<number> {
    return Number(await this.printed(/(?:http:\/\/127\.0\.0\.1:|port )(\d+)/));
  }

  exit(): Promise<number | null> {
    return until(() => this.code, `the end of the example: ${this.output}`);
  }

  async stop(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exit();
  }
}

/** Runs `body` with an example, and ends it. */
export async function withExample(
  [name, ...args]: [name: string, ...args: string[]],
  body: (example: Example) => Promise<void>,
): Promise<void> {
  const example = new Example(name, ...args);
  try {
    await body(example);
  } finally {
    await example.stop();
  }
}
