import type { Via } from "../transfer/options.ts";

/** The result of {@link sendfileReport} for one kind of socket or server. */
export interface SocketReport {
  /** `Deno.listen, TCP`, `node:http`, `TLS`, … */
  readonly kind: string;
  /** How a file was sent, if every byte arrived; undefined if no file was sent or bytes are missing. */
  readonly via?: Via;
  /** Bytes that were sent and have arrived. */
  readonly bytes: number;
  /** Why sendfile(2) was not used, or why no file was sent. */
  readonly reason?: string;
  /** What to change. */
  readonly advice?: string;
  /** What went wrong: an error of the transfer, or wrong bytes. */
  readonly problem?: string;
}

/** The result of {@link sendfileReport}. */
export interface SendfileReport {
  /** The version of this package. */
  readonly version: string;
  /** The operating system and the machine: `linux 6.18.5 x64`. */
  readonly system: string;
  /** `deno 2.9.6`, `bun 1.4.5`, … */
  readonly runtime: string;
  /** The name or path of the loaded C library; undefined if none was loaded. */
  readonly libc?: string;
  /**
   * Deno's permission to use the C library: granted (for this library or for all) or missing; other runtimes need
   * none.
   */
  readonly permission: "granted" | "missing" | "not needed";
  /** The value of the environment variable ZEROCOPY_SENDFILE; undefined if it is not set or may not be read. */
  readonly environment?: string;
  /** The congestion control of a TCP connection on loopback; undefined if the system does not tell. */
  readonly congestionControl?: string;
  /** Whether sendfile(2) can be used in this process. */
  readonly available: boolean;
  /** Why not. */
  readonly reason?: string;
  /** What to change. */
  readonly advice?: string;
  /** Each kind of socket that this runtime has. */
  readonly sockets: readonly SocketReport[];
  /** Whether sendfile(2) is used wherever this runtime allows it, and every sent byte arrived. */
  readonly ok: boolean;
}

/**
 * Tests where this process can use sendfile(2): sends a part of the runtime's own executable over loopback on each
 * kind of socket and compares what arrives. Skips what is not permitted, and says so in the report; never prompts.
 * Takes a fraction of a second, at most 10 seconds for each transfer. Does not reject.
 *
 * Source: sendfile(2); tcp(7), TCP_CONGESTION.
 *
 * @example Log at start what could be improved
 * ```ts no-eval
 * import { sendfileReport } from "@zerocopy/sendfile";
 *
 * const { ok, reason, advice, sockets } = await sendfileReport();
 * if (!ok) console.warn(`files are copied: ${reason}; ${advice}`, sockets);
 * ```
 */
export async function sendfileReport(): Promise<SendfileReport> {
  // Imported on demand: it needs node:http, which would double the load time of this package (measured).
  const { makeReport } = await import("./make_report.ts");
  return await makeReport([]);
}
