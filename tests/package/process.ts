/** Programs run to their end. */
import { spawn } from "node:child_process";
import process from "node:process";

/** What a program has printed. */
export interface Output {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Milliseconds after which a program has hung and is ended. */
const TIMEOUT = 120_000;

/** Runs a program; resolves when it has ended, in whatever way. */
export function run(
  [program, ...args]: string[],
  { cwd, env }: { cwd?: string; env?: Record<string, string> } = {},
): Promise<Output> {
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, NO_COLOR: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIMEOUT,
    killSignal: "SIGKILL",
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (bytes) => stdout += bytes);
  child.stderr.on("data", (bytes) => stderr += bytes);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
}

/** As {@link run}; rejects with all that was printed where the program says that it failed. */
export async function runWell(command: string[], options: Parameters<typeof run>[1] = {}): Promise<Output> {
  const output = await run(command, options);
  if (output.code === 0) return output;
  throw new Error(`${command.join(" ")}: exit ${output.code}\n${output.stdout}${output.stderr}`);
}
