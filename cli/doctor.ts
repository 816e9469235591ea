import { createConnection } from "node:net";
import { serveFile } from "../http/mod.ts";
import { withSendfile } from "../http/send/with_sendfile.ts";
import type { BodyWay } from "../http/send/handoff.ts";
import type { SendfileReport, SocketReport } from "../report/mod.ts";
import { makeReport } from "../report/make_report.ts";
import { checkReceived, collect, type Probe } from "../report/probe.ts";
import { isDeno } from "../runtime.ts";
import { Failure } from "./arguments.ts";

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

/** Tests `withSendfile` under `Deno.serve`. */
const denoServe: Probe = {
  kind: "Deno.serve, withSendfile",
  async run({ path, offset, bytes }) {
    let way: BodyWay | undefined;
    const handler = withSendfile((request: Request) => serveFile(request, path), {
      onBody: (told) => way = told,
    });
    const server = Deno.serve({ ...LOOPBACK, onListen() {} }, handler);
    const client = createConnection(server.addr.port, server.addr.hostname);
    try {
      const range = `bytes=${offset}-${offset + bytes.length - 1}`;
      client.write(`GET / HTTP/1.1\r\nHost: x\r\nRange: ${range}\r\nConnection: close\r\n\r\n`);
      const received = await collect(client);
      const head = received.findIndex((_, i) => END_OF_HEAD.every((byte, j) => received[i + j] === byte));
      checkReceived(received.subarray(head + END_OF_HEAD.length), bytes);
    } finally {
      client.destroy();
      await server.shutdown();
    }
    return way?.via === "sendfile" ? { via: "sendfile" } : { via: "copy", reason: way?.reason };
  },
};

const END_OF_HEAD = [..."\r\n\r\n"].map((character) => character.charCodeAt(0));

/**
 * The command `doctor`: prints where sendfile(2) is used on this machine. Returns the exit code: 0 if it is used
 * wherever this runtime allows it, otherwise 1. Throws {@link Failure}.
 */
export async function doctor(args: readonly string[]): Promise<0 | 1> {
  const [flag, ...others] = args;
  if (others.length > 0 || (flag !== undefined && flag !== "--json")) {
    throw new Failure(`doctor takes --json and nothing else, not ${JSON.stringify(flag)}`, 2);
  }
  const report = await makeReport(isDeno ? [denoServe] : []);
  console.log(flag === "--json" ? JSON.stringify(report, null, 2) : textOf(report));
  return report.ok ? 0 : 1;
}

/** Formats the report as text. */
function textOf(report: SendfileReport): string {
  const { version, system, runtime, libc, permission, environment, congestionControl } = report;
  const facts: [name: string, value: string][] = [
    ["package", `@zerocopy/sendfile ${version}`],
    ["system", system],
    ["runtime", runtime],
    ["libc", libc ?? "not loaded"],
    ["FFI permission", permission],
    ["ZEROCOPY_SENDFILE", environment ?? "not set"],
    ["congestion control", congestionControl ?? "not known"],
    ["zero-copy", report.available ? "on" : `off (${report.reason})`],
  ];
  const lines = facts.map(([name, value]) => row(name, value));
  if (!report.available && report.advice) lines.push(row("", `-> ${report.advice}`));
  lines.push("");
  for (const socket of report.sockets) {
    lines.push(row(socket.kind, howOf(socket)));
    // Advice for the whole process was printed above.
    if (socket.advice && socket.advice !== report.advice) lines.push(row("", `-> ${socket.advice}`));
  }
  lines.push("", verdictOf(report));
  return lines.join("\n");
}

function row(name: string, value: string): string {
  return `${name.padEnd(26)} ${value}`;
}

function howOf({ via, bytes, reason, problem }: SocketReport): string {
  if (problem !== undefined) return `FAILED: ${problem}`;
  if (via === undefined) {
    return reason === "TLS" ? "copy: the runtime encrypts TLS in user space" : reason ?? "";
  }
  const arrived = `${bytes} bytes sent, the same arrived`;
  return reason === undefined ? `${via}: ${arrived}` : `${via} (${reason}): ${arrived}`;
}

function verdictOf({ ok, available, sockets }: SendfileReport): string {
  if (ok) return "ok: files go by sendfile(2) wherever this runtime lets them";
  if (sockets.some(({ problem }) => problem !== undefined)) return "not ok: a transfer has failed";
  if (!available) return "not ok: files are copied";
  return "not ok: some files are copied, or nothing could be tried";
}
