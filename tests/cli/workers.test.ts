/** `--workers`: processes that share a port, how they are started and how they are replaced. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join, resolve } from "@std/path";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { Failure } from "../../cli/arguments.ts";
import { VARIABLES } from "../../cli/environment.ts";
import { type Retry, Workers } from "../../cli/workers.ts";
import { isBun, test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";
import { Registry } from "../support/registry.ts";
import {
  childrenOf,
  CLI,
  MIB,
  noProc,
  refusesConnections,
  Server,
  serving,
  type Site,
  until,
} from "../support/site.ts";

const LARGE = `/${20 * MIB}.bin`;

/** The workers, once there are `count`. A process that has ended and was not waited for would be one too many. */
function workersOf({ child }: Server, count: number): Promise<number[]> {
  return until(() => {
    const workers = childrenOf(child.pid!);
    return workers.length === count && workers;
  }, `${count} workers`);
}

function exists(pid: number): boolean {
  return fs.existsSync(`/proc/${pid}`);
}

function commandOf(pid: number): string[] {
  return fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
}

function occurrences(text: string, part: string): number {
  return text.split(part).length - 1;
}

async function servesRightBytes({ port }: Server, site: Site): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (const [target, content] of site.files) assertSame((await ask(port, target)).body, content, target);
  }
}

/** SIGTERM, and what is to come of it. */
async function endsWell(server: Server): Promise<void> {
  const workers = childrenOf(server.child.pid!);
  process.kill(server.child.pid!, "SIGTERM");
  assertEquals(await server.exit(), 0);
  assertEquals(workers.filter(exists), []);
}

/** That two workers serve, that one is replaced when it is killed, and that all end. */
async function worksWithWorkers(server: Server, site: Site): Promise<void> {
  await servesRightBytes(server, site);
  const [killed, other] = await workersOf(server, 2);
  process.kill(killed, "SIGKILL");
  await until(() => server.errors.includes("a worker listens again"), "a new worker");
  const workers = await workersOf(server, 2);
  assert(workers.includes(other) && !workers.includes(killed));
  await servesRightBytes(server, site);
  assert(
    /a worker ended by SIGKILL; another one starts in \d\.\d s\na worker listens again\n$/.test(
      server.errors,
    ),
    server.errors,
  );
  server.errors = "";
  await endsWell(server);
}

const WORKERS = ["--workers", "2"];

// How the program is started.

/** A directory without any configuration of ours, of which Deno would make use. */
async function away(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "away-")));
  try {
    await body(directory);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

/** {@link serving}, where Deno writes to stderr what it downloads before the first line. */
function servingPublished(
  command: string[],
  env: Record<string, string>,
  body: (server: Server, site: Site) => Promise<void> = worksWithWorkers,
): Promise<void> {
  return serving((server, site) => {
    server.errors = "";
    return body(server, site);
  }, { command, env, args: WORKERS });
}

/** `deno run`, in another directory than the one of this package. */
function denoIn(directory: string, ...args: string[]): string[] {
  return ["env", `--chdir=${directory}`, process.execPath, ...args];
}

test("workers start from JSR", () =>
  away(async (directory) => {
    await using registry = await Registry.start();
    await servingPublished(denoIn(directory, "run", "-A", "jsr:@zerocopy/sendfile/cli"), registry.env);
  }), { only: "deno", skip: noProc });

test(
  "workers start from a server, with the import map of the process that starts them",
  () =>
    away(async (directory) => {
      await using registry = await Registry.start();
      const { base, env } = registry;
      const flags = ["-A", `--import-map=${base}/import_map.json`];
      await servingPublished(denoIn(directory, "run", ...flags, `${base}/raw/cli.ts`), env);
    }),
  { only: "deno", skip: noProc },
);

test("workers start from a program that deno install made", () =>
  away(async (directory) => {
    await using registry = await Registry.start();
    const env = { ...registry.env, DENO_INSTALL_ROOT: directory };
    const { status, stderr } = await run(
      [process.execPath, "install", "-g", "-A", "-n", "sendfile", "jsr:@zerocopy/sendfile/cli"],
      directory,
      env,
    );
    assertEquals(status, 0, stderr);
    await servingPublished([join(directory, "bin", "sendfile")], env);
  }), { only: "deno", skip: noProc });

/** Runs a command to its end, while this process serves it. `cwd`: Bun writes there what it compiles. */
function run(
  [program, ...args]: string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<{ status: number | null; stderr: string }> {
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr!.on("data", (bytes) => stderr += bytes);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve({ status, stderr }));
  });
}

const PERMISSIONS = [
  "--no-prompt",
  "--allow-net=127.0.0.1",
  `--allow-run=${process.execPath}`,
  "--allow-env",
];

test("workers have no more permissions than they need, from JSR too", () =>
  away(async (directory) => {
    await using registry = await Registry.start();
    const flags = ["run", ...PERMISSIONS, `--allow-read=${tmpdir()}`, "--allow-ffi", "--allow-import"];
    const body = async (server: Server, site: Site) => {
      for (const pid of await workersOf(server, 2)) {
        assertEquals(commandOf(pid).filter((flag) => flag.startsWith("--allow-") || flag === "-A"), [
          `--allow-read=${site.root}`,
          `--allow-net=127.0.0.1:${server.port}`,
          `--allow-env=${["ZEROCOPY_SENDFILE", ...VARIABLES.values()].join(",")}`,
          "--allow-ffi",
          "--allow-import",
        ]);
      }
      await worksWithWorkers(server, site);
    };
    await servingPublished(denoIn(directory, ...flags, "jsr:@zerocopy/sendfile/cli"), registry.env, body);
  }), { only: "deno", skip: noProc });

for (
  const [what, flags, expected] of [
    ["the flags of deno run", ["run", "-A", "--v8-flags=--max-old-space-size=500", "-q"], [
      "run",
      "-A",
      "--v8-flags=--max-old-space-size=500",
      "-q",
      "--unstable-net",
    ]],
    ["the flags of deno without run", ["-A", "--unstable-net", "--seed=7"], [
      "run",
      "-A",
      "--seed=7",
      "--unstable-net",
    ]],
    ["no flag that only one process can use", [
      "run",
      "-A",
      "--inspect=127.0.0.1:0",
      "--reload=http://none.invalid",
    ], [
      "run",
      "-A",
      "--unstable-net",
    ]],
  ] as const
) {
  test(`workers get ${what}`, () =>
    serving(async (server) => {
      server.errors = ""; // the inspector's
      for (const pid of await workersOf(server, 2)) {
        const command = commandOf(pid);
        assertEquals(command.slice(1, command.indexOf("--worker")), [...expected, CLI]);
      }
      // Where an argument is Deno's path, node:child_process takes flags without `run` for those of Node.js.
    }, {
      command: ["sh", "-c", 'exec "$DENO" "$@"', "sh", ...flags, CLI],
      env: { DENO: process.execPath },
      args: WORKERS,
    }), { only: "deno", skip: noProc });
}

test("workers get the flags of bun", () =>
  serving(async (server) => {
    for (const pid of await workersOf(server, 2)) {
      assertEquals(commandOf(pid).slice(1, 4), ["--smol", CLI, "--worker"]);
    }
  }, { command: [process.execPath, "--smol", CLI], args: WORKERS }), { only: "bun", skip: noProc });

for (
  const [what, flags, message] of [
    [
      "without the permission to start them",
      ["--no-prompt", "--allow-net", "--allow-read", "--allow-env"],
      `workers need --allow-run=${process.execPath} and --allow-env`,
    ],
    [
      "that would have more permissions than the process that starts them",
      [...PERMISSIONS, "--allow-read", "--deny-read=/etc"],
      "workers would not have this process's --deny-read: the list of a permission cannot be read",
    ],
  ] as const
) {
  test(`serve refuses workers ${what}`, async () => {
    const args = [...WORKERS, "-p", "0", "--host", "127.0.0.1", tmpdir()];
    const server = new Server({ permissions: [...flags], args });
    try {
      assertEquals(await server.exit(), 1);
      assertEquals(server.errors, `error: ${message}\n`);
      assertEquals(server.lines, []);
    } finally {
      await server.stop();
    }
  }, { only: "deno" });
}

test(
  "workers start from a program that bun build compiled, and again once it is back",
  () =>
    away(async (directory) => {
      const program = join(directory, "sendfile");
      const { status, stderr } = await run([
        process.execPath,
        "build",
        "--compile",
        CLI,
        "--outfile",
        program,
      ], directory);
      assertEquals(status, 0, stderr);
      await serving(worksWithWorkers, { command: [program], args: WORKERS });
      await serving(async (server, site) => {
        const [killed] = await workersOf(server, 2);
        fs.renameSync(program, `${program}.new`);
        process.kill(killed, "SIGKILL");
        await until(() => occurrences(server.errors, "ENOENT") >= 2, "two attempts to start it");
        fs.renameSync(`${program}.new`, program);
        await until(() => server.errors.includes("a worker listens again"), "a new worker");
        await workersOf(server, 2);
        await servesRightBytes(server, site);
        server.errors = "";
        await endsWell(server);
      }, { command: [program], args: WORKERS });
    }),
  { only: "bun", skip: noProc },
);

/** `deno compile` builds on a runtime of its own, which it downloads. */
function noDenort(): string | undefined {
  if (isBun || process.env.DENORT_BIN) return undefined;
  const { stdout } = spawnSync(process.execPath, ["info", "--json"], { encoding: "utf8" });
  const { denoDir } = JSON.parse(stdout);
  const place = resolve(denoDir, "dl", "release", `v${Deno.version.deno}`);
  return fs.existsSync(place) ? undefined : "denort was not downloaded";
}

test("workers start from a program that deno compile made", () =>
  away(async (directory) => {
    const program = join(directory, "sendfile");
    const flags = ["-A", "--unstable-net", "--no-check", "--node-modules-dir=none", "-o", program];
    const { status, stderr } = await run([process.execPath, "compile", ...flags, CLI], directory);
    assertEquals(status, 0, stderr);
    await serving(worksWithWorkers, { command: [program], args: WORKERS });
  }), { only: "deno", skip: noProc ?? noDenort() });

// What becomes of them.

/** Moves the site's directory away, kills `count` of the workers and waits until nobody could replace them twice. */
async function loseWorkers(server: Server, site: Site, count: number): Promise<number[]> {
  const workers = await workersOf(server, 2);
  fs.renameSync(site.root, `${site.root}.away`);
  const killed = workers.slice(0, count);
  for (const pid of killed) process.kill(pid, "SIGKILL");
  await until(() => occurrences(server.errors, "there is no directory") >= 2 * count, "attempts that fail");
  return killed;
}

for (const count of [1, 2]) {
  test(
    `serve replaces ${count} of 2 workers once the directory is back`,
    () =>
      serving(async (server, site) => {
        const killed = await loseWorkers(server, site, count);
        assertEquals(await refusesConnections(server.port), count === 2);
        fs.renameSync(`${site.root}.away`, site.root);
        await until(() => occurrences(server.errors, "a worker listens again") === count, "new workers");
        assertEquals((await workersOf(server, 2)).filter((pid) => killed.includes(pid)), []);
        await servesRightBytes(server, site);
        assert(server.errors.includes("a worker ended with code 1; another one starts in "), server.errors);
        server.errors = "";
        await endsWell(server);
      }, { args: WORKERS }),
    { skip: noProc },
  );

  test(
    `serve ends with code 0 on SIGTERM while ${count} of 2 workers cannot start`,
    () =>
      serving(async (server, site) => {
        await loseWorkers(server, site, count);
        await endsWell(server);
        server.errors = "";
        fs.renameSync(`${site.root}.away`, site.root);
      }, { args: WORKERS }),
    { skip: noProc },
  );
}

test(
  "serve ends with code 1 if no worker is left and none can be started",
  () =>
    serving(async (server, site) => {
      await loseWorkers(server, site, 2);
      await until(() => occurrences(server.errors, "there is no directory") >= 12, "more attempts");
      assertEquals(await server.exit(), 1);
      assert(server.errors.endsWith("error: a worker ended with code 1; no worker is left\n"), server.errors);
      // Each of the two has eight attempts, and a few more while the other still has some.
      assert(occurrences(server.errors, "there is no directory") <= 2 * 12, server.errors);
      server.errors = "";
      fs.renameSync(`${site.root}.away`, site.root);
    }, { args: WORKERS }),
  { skip: noProc },
);

test("serve ends with code 0 on SIGTERM while a worker starts", () =>
  serving(async (server) => {
    const before = await workersOf(server, 2);
    process.kill(before[0], "SIGKILL");
    await until(() => childrenOf(server.child.pid!).some((pid) => !before.includes(pid)), "a new process");
    await endsWell(server);
    server.errors = "";
  }, { args: WORKERS }), { skip: noProc });

test("workers end when the process that started them is killed", () =>
  serving(async (server, site) => {
    const workers = await workersOf(server, 3);
    const client = await Client.to(server.port);
    client.send(request(LARGE));
    await client.begun();
    process.kill(server.child.pid!, "SIGKILL");
    await until(() => !workers.some(exists), "the workers to end");
    assert(await refusesConnections(server.port));
    client.close();
    assert(fs.existsSync(site.root));
  }, { args: ["--workers", "3"] }), { skip: noProc });

test("workers that start end when the process that started them is killed", () =>
  serving(async (server) => {
    const before = await workersOf(server, 2);
    process.kill(before[0], "SIGKILL");
    const all = await until(() => {
      const now = childrenOf(server.child.pid!);
      return now.some((pid) => !before.includes(pid)) && now;
    }, "a new process");
    process.kill(server.child.pid!, "SIGKILL");
    await until(() => !all.some(exists), "the workers to end");
    server.errors = "";
  }, { args: WORKERS }), { skip: noProc });

/** The sockets of IPv4 connections that `port` serves, by the client's port. */
function connectionsTo(port: number): Map<number, string> {
  const portOf = (address: string) => parseInt(address.split(":")[1], 16);
  return new Map(
    fs.readFileSync("/proc/net/tcp", "latin1").trim().split("\n").slice(1).map((line) =>
      line.trim().split(/\s+/)
    )
      .filter(([, local]) => portOf(local) === port)
      .map((fields) => [portOf(fields[2]), `socket:[${fields[9]}]`]),
  );
}

function holds(pid: number, socket: string): boolean {
  return fs.readdirSync(`/proc/${pid}/fd`).some((fd) => {
    try {
      return fs.readlinkSync(`/proc/${pid}/fd/${fd}`) === socket;
    } catch {
      return false; // closed meanwhile
    }
  });
}

test("a worker that is killed takes only its own connections with it", () =>
  serving(async (server, site) => {
    const workers = await workersOf(server, 3);
    const clients = await Promise.all(Array.from({ length: 24 }, async () => {
      const client = await Client.to(server.port);
      client.send(request(LARGE));
      await client.begun();
      return client;
    }));
    const sockets = connectionsTo(server.port);
    const ownerOf = ({ socket }: Client) =>
      workers.find((pid) => holds(pid, sockets.get(socket.localPort!)!)) ?? -1;
    const owners = new Map(clients.map((client) => [client, ownerOf(client)]));
    assert(!clients.some((client) => owners.get(client) === -1));
    const killed = owners.get(clients[0])!;
    process.kill(killed, "SIGKILL");
    await Promise.all(clients.map(async (client) => {
      client.socket.resume();
      if (owners.get(client) === killed) await assertRejects(() => client.reply(), Error, "ended");
      else assertSame((await client.reply()).body, site.files.get(LARGE)!, "a connection of another worker");
      client.close();
    }));
    assert(clients.some((client) => owners.get(client) !== killed));
    await until(() => server.errors.includes("a worker listens again"), "a new worker");
    await workersOf(server, 3);
    await servesRightBytes(server, site);
    server.errors = "";
    await endsWell(server);
  }, { args: ["--workers", "3"] }), { skip: noProc });

// Workers that misbehave as ours do not.

type Behaviour = "exit" | "hang" | "fail" | "serve" | "disconnect";

const CHILD = resolve(import.meta.dirname!, "../children/worker.ts");

function startChild(behaviour: Behaviour): ChildProcess {
  const runtime = isBun ? [] : ["run", "-A", "--no-check", "--no-config"];
  return spawn(process.execPath, [...runtime, CHILD, behaviour], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
}

const QUICK: Retry = { first: 1, longest: 8, attempts: 4, settled: 60_000, start: 60_000 };

/** A pool whose processes behave one after the other as `behaviours` say, and then all as the last of them. */
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

/** Runs `body` with what is written to the log meanwhile; no process may be left then. */
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
      // One of the two always is about to start.
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
