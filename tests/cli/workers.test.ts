/** Workers: a pool of processes that end, hang or cannot start as the test says. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { resolve } from "@std/path";
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { Failure } from "../../cli/arguments.ts";
import { type Retry, Workers } from "../../cli/workers.ts";
import { isBun, test } from "../support/harness.ts";
import { noProc, until } from "../support/site.ts";
import { exists, occurrences } from "./worker_processes.ts";

type Behaviour = "exit" | "hang" | "fail" | "serve" | "disconnect";

const CHILD = resolve(import.meta.dirname!, "../children/worker.ts");

function startChild(behaviour: Behaviour): ChildProcess {
  const runtime = isBun ? [] : ["run", "-A", "--no-check", "--no-config"];
  return spawn(process.execPath, [...runtime, CHILD, behaviour], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
}

const QUICK: Retry = { first: 1, longest: 8, attempts: 4, settled: 60_000, start: 60_000 };

/** A pool whose nth process behaves as the nth of `behaviours`, and all further ones as the last. */
class Pool {
  readonly started: ChildProcess[] = [];
  readonly lost: Failure[] = [];
  readonly workers: Workers;

  constructor(behaviours: (Behaviour | Error | "missing")[], retry: Retry = QUICK) {
    const next = () => {
      const behaviour = behaviours[Math.min(this.attempts++, behaviours.length - 1)];
      if (behaviour instanceof Error) throw behaviour;
      const child = behaviour === "missing"
        ? spawn("/no/such/program", [], { stdio: ["ignore", "ignore", "ignore", "ipc"] })
        : startChild(behaviour);
      this.started.push(child);
      return child;
    };
    this.workers = new Workers(next, (failure) => this.lost.push(failure), retry);
  }

  attempts = 0;

  listen(count = 1): Promise<void> {
    return this.workers.listen(1, count);
  }

  /** Kills the process that was started last. */
  kill(): void {
    process.kill(this.started.at(-1)!.pid!, "SIGKILL");
  }
}

/** Runs `body` with the lines written to the log meanwhile, and asserts that no process is left afterwards. */
async function logged(pool: Pool, body: (log: string[]) => Promise<void>): Promise<void> {
  const log: string[] = [];
  const { error } = console;
  console.error = (line: string) => log.push(line);
  try {
    await body(log);
    await pool.workers.stop();
    await until(
      () => !pool.started.some(({ pid }) => pid !== undefined && exists(pid)),
      "all processes to end",
    );
  } finally {
    console.error = error;
    pool.workers.kill();
  }
}

for (
  const [what, behaviour, message] of [
    ["ends", "exit", "a worker ended with code 3"],
    ["cannot listen", "fail", "no place to listen on"],
    ["cannot be started", new Error("no more processes"), "no more processes"],
    ["is not there", "missing", /ENOENT|No such file/],
  ] as const
) {
  test(`workers fail at once where the first ${what}`, () => {
    const pool = new Pool([behaviour]);
    return logged(pool, async (log) => {
      const failure = await assertRejects(() => pool.listen(), Failure);
      if (typeof message === "string") assertEquals(failure.message, message);
      else assert(message.test(failure.message), failure.message);
      assertEquals([failure.code, pool.attempts, pool.lost, log], [1, 1, [], []]);
    });
  }, { skip: noProc });
}

for (
  const [what, behaviour] of [
    ["ends", "exit"],
    ["cannot listen", "fail"],
    ["cannot be started", new Error("no more processes")],
    ["is not there", "missing"],
  ] as const
) {
  test(`workers are given up after so many attempts where each ${what}`, () => {
    const pool = new Pool(["serve", behaviour]);
    return logged(pool, async (log) => {
      await pool.listen();
      pool.kill();
      await until(() => pool.lost.length > 0, "the last attempt");
      assertEquals([pool.attempts, pool.lost.length, pool.lost[0].code], [1 + QUICK.attempts, 1, 1]);
      assert(pool.lost[0].message.endsWith("; no worker is left"), pool.lost[0].message);
      assertEquals(log.length, QUICK.attempts);
    });
  }, { skip: noProc });

  test(`workers come back after one that ${what}`, () => {
    const pool = new Pool(["serve", behaviour, behaviour, "serve"]);
    return logged(pool, async (log) => {
      await pool.listen();
      pool.kill();
      await until(() => log.at(-1) === "a worker listens again", "a worker");
      assertEquals([pool.attempts, pool.lost.length, log.length], [4, 0, 4]);
    });
  }, { skip: noProc });
}

test("workers that listen and end at once are given up", () => {
  const pool = new Pool(["serve"]);
  return logged(pool, async (log) => {
    await pool.listen();
    for (let i = 0; i <= QUICK.attempts; i++) {
      await until(() => occurrences(log.join("\n"), "listens again") === i, "a worker");
      pool.kill();
    }
    await until(() => pool.lost.length > 0, "the last attempt");
    assertEquals(pool.attempts, 1 + QUICK.attempts);
  });
}, { skip: noProc });

test("workers that listened long enough are replaced as the first time", () => {
  const pool = new Pool(["serve"], { ...QUICK, settled: 0 });
  return logged(pool, async (log) => {
    await pool.listen();
    for (let i = 0; i < 2 * QUICK.attempts; i++) {
      pool.kill();
      await until(() => occurrences(log.join("\n"), "listens again") === i + 1, "a worker");
    }
    assertEquals(pool.lost, []);
  });
}, { skip: noProc });

test("workers are given up where each hangs at the start, at another time than the other", () => {
  const pool = new Pool(["serve", "serve", "hang"], { ...QUICK, start: 300, attempts: 1 });
  return logged(pool, async () => {
    await pool.listen(2);
    for (const { pid } of [...pool.started]) {
      const before = pool.attempts;
      process.kill(pid!, "SIGKILL");
      // At any time one of the two workers is about to start.
      await until(() => pool.attempts > before, "an attempt");
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
    await until(() => pool.lost.length > 0, "the last attempt");
    assertEquals(pool.lost[0].message, "a worker ended by SIGKILL; no worker is left");
    await until(() => pool.started.every(({ pid }) => !exists(pid!)), "all processes to end");
  });
}, { skip: noProc });

test("workers that hang at the start are replaced", () => {
  const pool = new Pool(["serve", "hang", "serve"], { ...QUICK, start: 2000 });
  return logged(pool, async (log) => {
    await pool.listen();
    pool.kill();
    await until(() => log.includes("a worker listens again"), "a worker");
    assertEquals(pool.attempts, 3);
  });
}, { skip: noProc });

test("workers that close the channel and go on are replaced", () => {
  const pool = new Pool(["disconnect", "serve"]);
  return logged(pool, async (log) => {
    await pool.listen();
    await until(() => log.includes("a worker listens again"), "a worker");
    assertEquals(pool.attempts, 2);
  });
}, { skip: noProc });

test("workers that hang at the start do not keep the process that stops", () => {
  const pool = new Pool(["hang"]);
  return logged(pool, async () => {
    pool.listen();
    await until(() => pool.started.length > 0, "a process");
  });
}, { skip: noProc });

test("workers are not replaced after the stop", () => {
  const pool = new Pool(["serve"], { ...QUICK, first: 1000, longest: 1000 });
  return logged(pool, async (log) => {
    await pool.listen();
    pool.kill();
    await until(() => log.length === 1, "the notice");
    await pool.workers.stop();
    await new Promise((resolve) => setTimeout(resolve, 1200)); // longer than an attempt would have waited
    assertEquals(pool.attempts, 1);
  });
}, { skip: noProc });
