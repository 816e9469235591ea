/** What one version of a runtime does, row by row: each transfer is bounded, and its bytes are compared. */
import * as fs from "node:fs";
import process from "node:process";
import { join } from "@std/path";
import type { SendfileReport, SocketReport } from "../../report/mod.ts";
import { type Output, run } from "../package/process.ts";
import { directoryFor } from "../package/published.ts";
import { Server, until } from "../support/site.ts";
import { compareBodies, makeFile } from "./bodies.ts";
import { denoDir, missing, type Project } from "./package.ts";
import { EXPECTED, type Facts } from "./facts.ts";
import type { Outcome } from "./probe.ts";
import { commandOf, NotHereError, type Runtime, SHOWN, type Version } from "./versions.ts";

/** A cell of the table. */
export interface Cell {
  /** `sendfile`, `copy`, `FAILED`, … */
  readonly text: string;
  /** A note: why not sendfile, or what went wrong. */
  readonly note?: string;
}

/** The rows of one version, in order. */
export type Column = Map<string, Cell>;

export const FAILED = "FAILED";
const NOT_TRIED = "not tried";

/** Seconds after which a program has hung. */
const LIMIT = 40;

const noStrace = missing("strace");
const noScript = missing("script");

/** Rows of `probe.ts`, by what they are called in it. Node.js has no server for fetch handlers. */
const PROBES: Readonly<Record<Runtime, Readonly<Record<string, string>>>> = {
  deno: {
    serveStatic: "node:http, serveStatic",
    serveDir: "Deno.serve, serveDir",
    withSendfile: "Deno.serve, serveDir, withSendfile",
    serve: "serve of ./serve, serveDir",
  },
  bun: {
    serveStatic: "node:http, serveStatic",
    serveDir: "Bun.serve, serveDir",
    withSendfile: "Bun.serve, serveDir, withSendfile",
    serve: "serve of ./serve, serveDir",
  },
  node: { serveStatic: "node:http, serveStatic" },
};

/** Tries everything on one version. */
export async function columnOf(project: Project, version: Version): Promise<Column> {
  const column: Column = new Map();
  try {
    commandOf(version);
  } catch (error) {
    if (error instanceof NotHereError) return column.set("doctor", { text: NOT_TRIED, note: error.message });
    throw error;
  }
  const { report, verdict } = await doctor(project, version);
  for (const socket of report?.sockets ?? []) {
    if (socket.kind !== "TLS" && !socket.kind.includes("withSendfile")) {
      column.set(socket.kind, cellOf(socket));
    }
  }
  for (const [name, row] of Object.entries(PROBES[version.runtime])) {
    column.set(row, await guarded(() => probe(project, version, name)));
  }
  column.set("static server", await guarded(() => staticServer(project, version)));
  column.set("doctor", verdict);
  column.set(
    version.runtime === "deno" ? "no FFI permission, at a terminal" : "ZEROCOPY_SENDFILE=0",
    await guarded(() => turnedOff(project, version)),
  );
  return column;
}

/** What this package rests on, in this version. */
export async function factsOf(project: Project, version: Version): Promise<Column> {
  if (version.runtime === "node" || version.machine !== undefined) return new Map();
  const { stdout, stderr } = await runBounded(project, version, [
    ...project.command(version, "probe"),
    "facts",
  ]);
  try {
    const facts: Facts = JSON.parse(stdout);
    return new Map(Object.entries(facts).map(([name, text]) => [name, { text }]));
  } catch {
    const failed = { text: FAILED, note: firstLine(stderr) || "no answer" };
    return new Map(Object.keys(EXPECTED[version.runtime]).map((name) => [name, failed]));
  }
}

/** What goes wrong is the cell's content. */
async function guarded(work: () => Promise<Cell>): Promise<Cell> {
  try {
    return await work();
  } catch (error) {
    return { text: FAILED, note: firstLine((error as Error).message) };
  }
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0];
}

/** Runs a command of the project to its end, at low priority; rejects where it says that it failed. */
async function runBounded(project: Project, version: Version, command: string[], env = {}): Promise<Output> {
  const bounded = ["nice", "-n", "19", "timeout", "-s", "KILL", String(LIMIT), ...command];
  return await run(bounded, {
    cwd: project.directory,
    env: { ...project.env, ...denoDir(version), ...env },
  });
}

async function doctor(
  project: Project,
  version: Version,
): Promise<{ report?: SendfileReport; verdict: Cell }> {
  const command = [...project.command(version, "cli"), "doctor", "--json"];
  const { code, stdout, stderr } = await runBounded(project, version, command);
  try {
    const report: SendfileReport = JSON.parse(stdout);
    const failed = report.sockets.find(({ problem }) => problem !== undefined);
    if (failed) return { report, verdict: { text: FAILED, note: `${failed.kind}: ${failed.problem}` } };
    return { report, verdict: { text: code === 0 ? "ok" : "not ok", note: report.reason } };
  } catch {
    return { verdict: { text: FAILED, note: firstLine(stderr) || `exit code ${code}` } };
  }
}

function cellOf({ via, reason, problem }: SocketReport): Cell {
  if (problem !== undefined) return { text: FAILED, note: problem };
  if (via === undefined) return { text: NOT_TRIED, note: reason?.replace(/^not tried: /, "") };
  return { text: via, note: reason };
}

async function probe(project: Project, version: Version, name: string): Promise<Cell> {
  const trace = new Trace();
  const command = [...trace.before, ...project.command(version, "probe"), name];
  const { code, stdout, stderr } = await runBounded(project, version, command);
  if (code === null || code === 137) throw new Error(`still running after ${LIMIT} s`);
  if (code !== 0) throw new Error(/^.*(?:Error|error): .*$/m.exec(stderr)?.[0] ?? firstLine(stderr));
  return await trace.judge(version, JSON.parse(stdout) as Outcome);
}

/** The static server of the command line. Its own word is the line that it starts with. */
async function staticServer(project: Project, version: Version): Promise<Cell> {
  const root = directoryFor("root");
  const content = makeFile(root);
  const trace = new Trace();
  const server = new Server({
    command: [...trace.before, ...project.command(version, "cli")],
    args: ["-p", "0", "--host", "127.0.0.1", root],
    env: { ...project.env, ...denoDir(version) },
    cwd: project.directory,
  });
  try {
    await until(() => server.code !== undefined || server.lines.length >= 2, "the static server to start");
    if (server.code !== undefined) return { text: "none", note: firstLine(server.errors) };
    await server.listening();
    const bytes = await compareBodies(server.port, content);
    const said = /^zero-copy: (?:on|off \((.*)\))$/.exec(
      server.lines.find((line) => /^zero-copy/.test(line))!,
    );
    const reasons = said?.[1] === undefined ? [] : [said[1]];
    await server.stop();
    return await trace.judge(version, { bytes, sendfile: reasons.length > 0 ? 0 : bytes, reasons });
  } finally {
    if (server.code === undefined) await server.stop();
  }
}

/** Without what sendfile(2) needs everything is copied, and Deno asks nobody, not even at a terminal. */
async function turnedOff(project: Project, version: Version): Promise<Cell> {
  const isDeno = version.runtime === "deno";
  if (isDeno && noScript) return { text: NOT_TRIED, note: noScript };
  const flags = isDeno ? ["--allow-read", "--allow-net=127.0.0.1"] : undefined;
  const doctor = [...project.command(version, "cli", flags), "doctor", "--json"];
  const command = isDeno ? ["script", "-qec", doctor.join(" "), "/dev/null"] : doctor;
  const { code, stdout } = await runBounded(
    project,
    version,
    command,
    isDeno ? {} : { ZEROCOPY_SENDFILE: "0" },
  );
  if (code === null || code === 137) throw new Error("it asked for a permission, or hung");
  const report: SendfileReport = JSON.parse(stdout.slice(stdout.indexOf("{")));
  const wrong = report.sockets.find(({ via, problem }) => problem !== undefined || via === "sendfile");
  if (wrong) throw new Error(`${wrong.kind}: ${wrong.problem ?? wrong.via}`);
  return { text: "copy", note: report.reason };
}

/** What the kernel was asked for, where strace can tell. */
class Trace {
  readonly #path = join(directoryFor("trace"), "trace");

  /** What stands before the command. With -D it is the command that is spawned, and killed. */
  get before(): string[] {
    if (noStrace) return [];
    return ["strace", "-D", "-f", "--seccomp-bpf", "-e", "trace=sendfile", "-o", this.#path];
  }

  async #bytes(): Promise<number | undefined> {
    if (noStrace) return undefined;
    const text = await until(() => {
      const text = fs.readFileSync(this.#path, "utf8");
      return /\+\+\+ (?:exited|killed) [^\n]*\n$/.test(text) && text;
    }, "the end of the trace");
    return [...text.matchAll(/\bsendfile\b.* = (\d+)$/gm)].reduce((sum, [, bytes]) => sum + Number(bytes), 0);
  }

  /** How the bytes went, by what the package says and the kernel was asked for. */
  async judge({ runtime }: Version, { sendfile, bytes, reasons }: Outcome): Promise<Cell> {
    const traced = await this.#bytes();
    const note = reasons.join("; ") || undefined;
    // The server itself sends some of the first bytes under withSendfile.
    const most = bytes * 0.99;
    if (sendfile >= most) {
      if (traced !== undefined && traced < most) throw new Error(`strace saw ${traced} bytes by sendfile(2)`);
      return { text: "sendfile", note };
    }
    if (sendfile > 0) return { text: "sendfile in part", note };
    if (!traced) return { text: "copy", note };
    const own = `${SHOWN[runtime]}'s sendfile`;
    return { text: traced >= most ? own : `${own} in part`, note };
  }
}

/** The kernel and machine of this run. */
export function machine(release: string): string {
  return `Linux ${release.split("-")[0]}, ${process.arch}`;
}
