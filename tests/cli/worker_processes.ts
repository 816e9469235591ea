/** What the tests of `--workers` share: which processes the workers are, and what they must do. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import { ask, assertSame } from "../support/http_client.ts";
import { childrenOf, type Server, type Site, until } from "../support/site.ts";

/** Waits for exactly `count` workers. A zombie, which nobody has waited for, would be one too many. */
export function workersOf({ child }: Server, count: number): Promise<number[]> {
  return until(() => {
    const workers = childrenOf(child.pid!);
    return workers.length === count && workers;
  }, `${count} workers`);
}

export function exists(pid: number): boolean {
  return fs.existsSync(`/proc/${pid}`);
}

export function commandOf(pid: number): string[] {
  return fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
}

export function occurrences(text: string, part: string): number {
  return text.split(part).length - 1;
}

export async function servesRightBytes({ port }: Server, site: Site): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (const [target, content] of site.files) assertSame((await ask(port, target)).body, content, target);
  }
}

/** Sends SIGTERM, and asserts that the server exits with 0 and leaves no worker. */
export async function endsWell(server: Server): Promise<void> {
  const workers = childrenOf(server.child.pid!);
  process.kill(server.child.pid!, "SIGTERM");
  assertEquals(await server.exit(), 0);
  assertEquals(workers.filter(exists), []);
}

/** Asserts that two workers serve, that a killed one is replaced, and that all end with the server. */
export async function worksWithWorkers(server: Server, site: Site): Promise<void> {
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

export const WORKERS = ["--workers", "2"];
