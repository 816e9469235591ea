/**
 * System calls that fail, one rule after another, in processes that a C library is preloaded into (`inject/inject.c`):
 * transfers over each kind of socket, and responses of each kind of server. Every byte that comes is right, what is not
 * complete ends with an error that says how much was sent, the next request is served, and no descriptor is left.
 */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { folder } from "./support/data.ts";
import { isBun, test } from "./support/harness.ts";
import type { Report as ServerReport } from "./inject/child_servers.ts";
import type { Report as SocketReport } from "./inject/child_sockets.ts";
import { ACCEPT_RULES, nameOf, OPEN_RULES, type Rule, RULES, RUNTIME_RULES } from "./inject/rules.ts";
import { missing } from "./support/site.ts";

const skip = process.platform === "linux" ? missing("cc") : "needs Linux";

const local = (name: string) => fromFileUrl(new URL(`./inject/${name}`, import.meta.url));

/** Runs a script with the library preloaded, and gives what it reports of each rule. */
async function run<Report extends { rule: string }>(
  script: string,
  kind: string,
): Promise<Map<string, Report>> {
  const dir = folder();
  try {
    const library = join(dir, "inject.so");
    const flags = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"];
    const built = spawnSync("cc", [...flags, "-o", library, local("inject.c"), "-ldl"], { encoding: "utf8" });
    assertEquals(built.status, 0, built.stderr);
    const runtime = isBun ? [] : ["run", "-A", "--no-check", "--node-modules-dir=none"];
    const child = spawn(process.execPath, [...runtime, local(script), kind], {
      env: { ...process.env, LD_PRELOAD: library },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [output, errors] = ["", ""];
    child.stdout.on("data", (bytes) => output += bytes);
    child.stderr.on("data", (bytes) => errors += bytes);
    const code = await new Promise((resolve) => child.once("close", resolve));
    assertEquals(code, 0, `${output}${errors}`);
    const lines = output.split("\n").filter((line) => line.startsWith("{"));
    return new Map(lines.map((line) => JSON.parse(line) as Report).map((report) => [report.rule, report]));
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

/** What is true of any report. */
function assertSound({ rule, wrong, left }: { rule: string; wrong?: string; left: string[] }): void {
  assertEquals([wrong, left], [undefined, []], rule);
}

const CLOSED = ["ECONNRESET", "EPIPE"];

function checkTransfer(rule: Rule, report: SocketReport): void {
  assertSound(report);
  const { hits, outcome, error, sent, received } = report;
  const told = JSON.stringify(report);
  if (hits === 0 || outcome === "ok") {
    assertEquals(outcome, "ok", told);
    assert(hits === 0 || rule.caller === "runtime" || rule.expect.includes("ok"), told);
    return;
  }
  if (CLOSED.includes(rule.fault as string)) assert(error!.startsWith("ConnectionClosedError"), told);
  else assert(error!.startsWith("SendfileError"), told);
  // Each runtime has a code of its own for a connection that is gone, and under TLS Deno none at all.
  assert(rule.expect.includes(outcome as never) || rule.caller === "runtime", told);
  // A runtime does not say what it has written of what it was given last.
  assert(rule.caller === "ours" ? sent === received : sent! <= received, told);
}

/** A kind of socket, and how many rules it does not meet. */
const sockets: readonly [kind: string, native: boolean, unmet: number][] = isBun
  ? [["Bun.listen", true, 0], ["Bun.listen unix", true, 0], ["Bun.listen TLS", false, 0], [
    "node:net accepted",
    true,
    0,
  ], ["descriptor", true, 0]]
  : [["Deno.listen", true, 0], ["Deno.listen unix", false, 0], ["Deno.listenTls", false, 0], [
    "node:net accepted",
    true,
    1, // Deno gives a duplicate of its own
  ], ["descriptor", true, 0]];

for (const [kind, native, unmet] of sockets) {
  test(`${kind}: a transfer under each injected error is right or says what was sent`, async () => {
    const reports = await run<SocketReport>("child_sockets.ts", kind);
    const ours = RULES.filter(({ copy }) => native || copy);
    for (const rule of [...ours, ...RUNTIME_RULES]) checkTransfer(rule, reports.get(nameOf(rule))!);
    // How often a transfer waits is up to the system.
    const sure = ours.filter(({ call, from }) => !call.startsWith("epoll_") || from <= 2);
    const missed = sure.map((rule) => reports.get(nameOf(rule))!).filter(({ hits }) => hits === 0);
    assert(missed.length <= unmet, JSON.stringify(missed));
  }, { skip });
}

const servers = isBun ? ["FileServer", "node:http", "Bun.serve"] : [
  "FileServer",
  "node:http",
  "withSendfile",
  "Deno.serve",
];

/** What a rule that a response survives, or not, may come to. */
const CUT = ["complete", "cut", "none", "500", "503"];

for (const kind of servers) {
  test(`${kind}: a response under each injected error is right or cut off`, async () => {
    const reports = await run<ServerReport>("child_servers.ts", kind);
    const rules = [...RULES.filter(({ copy }) => !copy), ...OPEN_RULES, ...RUNTIME_RULES];
    if (kind === "FileServer") rules.push(...ACCEPT_RULES);
    for (const rule of rules) {
      const report = reports.get(nameOf(rule))!;
      assertSound(report);
      const told = JSON.stringify(report);
      assertEquals(report.next, "complete", told);
      const survives = rule.expect.length === 1 && rule.expect[0] === "ok";
      assert(
        survives || report.hits === 0 ? report.outcome === "complete" : CUT.includes(report.outcome),
        told,
      );
    }
  }, { skip });
}
