/**
 * A network namespace for the benchmark alone: it may set the congestion control there, and no other traffic or
 * settings influence the figures. A process namespace comes with it, so that the kernel ends every server when the
 * benchmark ends for any reason; the network namespaces vanish with their last process.
 */
/** Set in the environment of a benchmark that has its namespaces. */
const MARK = "BENCH_ISOLATED";

const UNSHARE = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];

/** Whether this process has its own namespaces. */
export const isIsolated = Deno.env.get(MARK) === "1";

/**
 * Runs this program again in its own namespaces, with `env` added to the environment; returns its exit code. Prints a
 * message and returns undefined if the system does not permit that.
 */
export async function runIsolated(env: Record<string, string>): Promise<number | undefined> {
  const reason = await whyNot();
  if (reason !== undefined) {
    console.log(
      `no network namespace of its own (${reason}): measures in the present one, with its settings`,
    );
    return undefined;
  }
  const child = new Deno.Command("unshare", {
    args: [
      ...UNSHARE,
      Deno.execPath(),
      "run",
      "-A",
      "--node-modules-dir=none",
      Deno.mainModule,
      ...Deno.args,
    ],
    env: { ...env, [MARK]: "1" },
    stdin: "piped",
  }).spawn();
  // unshare(1) forwards no signals. The child ends when its stdin is closed, which also happens when this process is
  // killed.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => void child.stdin.close().catch(() => {/* closed before */}));
  }
  return (await child.status).code;
}

/** The reason why no namespace can be created; undefined if it can. */
async function whyNot(): Promise<string | undefined> {
  if (Deno.build.os !== "linux") return "not Linux";
  if (Deno.uid() !== 0) return "not root";
  try {
    const probe = new Deno.Command("unshare", { args: [...UNSHARE, "ip", "link", "set", "lo", "up"] });
    const { success, stderr } = await probe.output();
    return success ? undefined : new TextDecoder().decode(stderr).trim();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "no unshare";
    throw error;
  }
}
