/** `--workers`: how they start from wherever the program itself was started, and with which flags and permissions. */
import { assertEquals } from "@std/assert";
import { join, resolve } from "@std/path";
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { VARIABLES } from "../../cli/environment.ts";
import { isBun, test } from "../support/harness.ts";
import { Registry } from "../support/registry.ts";
import { CLI, noProc, Server, serving, type Site, until } from "../support/site.ts";
import {
  commandOf,
  endsWell,
  occurrences,
  servesRightBytes,
  WORKERS,
  workersOf,
  worksWithWorkers,
} from "./worker_processes.ts";

/** Runs `body` in a directory without a deno.json, which Deno would read. */
async function away(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "away-")));
  try {
    await body(directory);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

/** {@link serving}, but without the download messages that Deno writes to stderr at the start. */
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

/** The command `deno` with these arguments, run in `directory`. */
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

/** Runs a command asynchronously, because the command may download from this process. `cwd`: Bun compiles into it. */
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

/** Why `deno compile` cannot run: it needs the runtime denort, which it would have to download. */
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
