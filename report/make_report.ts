import { release } from "node:os";
import process from "node:process";
import type { Libc } from "../ffi/libc.ts";
import { environment, libc as loadLibc, SWITCH } from "../ffi/load.ts";
import type { SendfileReport, SocketReport } from "./mod.ts";
import { isBun, isDeno, isGranted } from "../runtime.ts";
import { whyNotSendfile } from "../sendfile.ts";
import { VERSION } from "../version.ts";
import { adviceFor, isInherent } from "./advice.ts";
import { bunProbes } from "./bun_probes.ts";
import { denoProbes } from "./deno_probes.ts";
import { nodeProbes } from "./node_probes.ts";
import { NotTriedError, type Probe, type Sample, takeSample, within } from "./probe.ts";
import { TLS } from "../reasons.ts";

/** Makes the report of `sendfileReport`, with additional probes. */
export async function makeReport(more: readonly Probe[]): Promise<SendfileReport> {
  const libc = loadLibc();
  const reason = whyNotSendfile();
  const sample = sampleOrReason();
  const own = isDeno ? denoProbes : isBun ? bunProbes : [];
  const found: { report: SocketReport; congestionControl?: string }[] = [];
  for (const probe of [...own, ...nodeProbes, ...more]) found.push(await tryProbe(probe, sample));
  const sockets = [...found.map(({ report }) => report), { kind: "TLS", bytes: 0, ...because(TLS) }];
  return {
    version: VERSION,
    system: systemName(),
    runtime: runtimeName(),
    libc: typeof libc === "string" ? undefined : libc.library.path,
    permission: permissionState(libc),
    environment: environment(SWITCH),
    congestionControl: found.find(({ congestionControl }) => congestionControl !== undefined)
      ?.congestionControl,
    available: reason === undefined,
    ...(reason === undefined ? {} : because(reason)),
    sockets,
    ok: reason === undefined && sockets.some(({ via }) => via === "sendfile") &&
      sockets.every(isAsGoodAsItGets),
  };
}

function sampleOrReason(): Sample | string {
  try {
    return takeSample();
  } catch (error) {
    return (error as Error).message;
  }
}

async function tryProbe(
  { kind, run }: Probe,
  sample: Sample | string,
): Promise<{ report: SocketReport; congestionControl?: string }> {
  if (typeof sample === "string") return { report: { kind, bytes: 0, reason: `not tried: ${sample}` } };
  try {
    const { via, reason, congestionControl } = await within(run(sample));
    const bytes = sample.bytes.length;
    return {
      report: { kind, via, bytes, ...(reason === undefined ? {} : because(reason)) },
      congestionControl,
    };
  } catch (error) {
    const { message } = error as Error;
    const what = error instanceof NotTriedError ? { reason: `not tried: ${message}` } : { problem: message };
    return { report: { kind, bytes: 0, ...what } };
  }
}

function because(reason: string): { reason: string; advice?: string } {
  const advice = adviceFor(reason);
  return advice === undefined ? { reason } : { reason, advice };
}

/** Whether the result is the best possible: sendfile(2), or a copy for a reason that nothing can change. */
function isAsGoodAsItGets({ via, reason = "", problem }: SocketReport): boolean {
  return problem === undefined && (via !== "copy" || isInherent(reason));
}

function systemName(): string {
  const { platform, arch } = process;
  const version = isGranted({ name: "sys", kind: "osRelease" }) ? ` ${release()}` : "";
  return `${platform}${version} ${arch}`;
}

function runtimeName(): string {
  const { bun, deno, node } = process.versions;
  return deno ? `deno ${deno}` : bun ? `bun ${bun}` : `node ${node}`;
}

function permissionState(libc: Libc | string): SendfileReport["permission"] {
  if (!isDeno) return "not needed";
  return typeof libc !== "string" || isGranted({ name: "ffi" }) ? "granted" : "missing";
}
