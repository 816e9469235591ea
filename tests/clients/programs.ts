/** Runs the programs that people use against the static server, and reads its log. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import process from "node:process";
import type { Readable } from "node:stream";
import { DEADLINE } from "../support/http_client.ts";
import { MIB, missing, type Server, type Site, until } from "../support/site.ts";

export const SIZE = 20 * MIB;

/** Long ago, so that `Last-Modified` is a strong validator (RFC 9110, 8.8.2.2). */
export const MODIFIED = new Date("2021-03-04T05:06:07Z");

/** Why a test that needs all of `commands` is skipped. */
export function lacking(...commands: string[]): string | undefined {
  return commands.map(missing).find((reason) => reason !== undefined);
}

interface Outcome {
  stdout: Buffer;
  stderr: string;
  code: number | null;
}

/** Starts a command in `cwd`, away from the configuration and the proxies of whoever runs the tests. */
export function start(
  cwd: string,
  command: string,
  args: string[],
  env: Record<string, string> = {},
): ChildProcessByStdio<null, Readable, Readable> {
  const { PATH = "" } = process.env;
  return spawn(command, args, {
    cwd,
    env: { PATH, HOME: cwd, LC_ALL: "C.UTF-8", TZ: "UTC", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Runs a command as `start` starts it. */
export async function run(...command: Parameters<typeof start>): Promise<Outcome> {
  const child = start(...command);
  const chunks: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (chunk) => chunks.push(chunk));
  child.stderr.on("data", (chunk) => stderr += chunk);
  const timer = setTimeout(() => child.kill("SIGKILL"), 2 * DEADLINE);
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  return { stdout: Buffer.concat(chunks), stderr, code };
}

/** What a command writes, which must succeed. */
export async function output(...[cwd, command, args, env]: Parameters<typeof run>): Promise<string> {
  const { stdout, stderr, code } = await run(cwd, command, args, env);
  assertEquals(code, 0, `${command} ${args.join(" ")}: exit code ${code}\n${stderr}${stdout}`);
  return String(stdout);
}

/** curl, without its configuration file. */
export function curl(site: Site, ...args: string[]): Promise<string> {
  return output(site.base, "curl", ["-q", "-sS", "-f", ...args]);
}

export function urlOf({ port }: Server, target: string): string {
  return `http://127.0.0.1:${port}${target}`;
}

interface Logged {
  status: number;
  bytes: number;
}

/** What the server has logged of GET requests for `target`. */
export function logged({ lines }: Server, target: string): Logged[] {
  return lines.map((line) => line.split(" "))
    .filter(([, , method, path]) => method === "GET" && path === target)
    .map(([, , , , status, bytes]) => ({ status: Number(status), bytes: Number(bytes) }));
}

/** Waits until the server has logged a response with `status` to a GET of `target`. */
export function answered(server: Server, target: string, status: number): Promise<Logged> {
  return until(
    () => logged(server, target).find((entry) => entry.status === status),
    `GET ${target} ${status} in the log:\n${server.lines.join("\n")}`,
  );
}

export function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export function assertMatches(text: string, pattern: RegExp): void {
  assert(pattern.test(text), `${pattern} in ${JSON.stringify(text)}`);
}

/** That the file at `path` holds what `target` is on the site. */
export function assertGot(path: string, site: Site, target: string): void {
  const [actual, expected] = [fs.readFileSync(path), site.files.get(target)!];
  assertEquals(actual.length, expected.length, `the length of ${target}`);
  assertEquals(sha256(actual), sha256(expected), target);
}

/** Adds a file that has not changed for long. */
export function addOld(site: Site, name: string, content: string | Buffer): void {
  site.add(name, content);
  fs.utimesSync(site.path(name), MODIFIED, MODIFIED);
}
