import type { Via } from "../transfer/options.ts";

/** What {@link sendfileReport} has found out about one kind of socket or server. */
export interface SocketReport {
  /** `Deno.listen, TCP`, `node:http`, `TLS`, … */
  readonly kind: string;
  /** How a file went, of which every byte has arrived; undefined where none was sent, or not all of it arrived. */
  readonly via?: Via;
  /** Bytes that were sent and have arrived. */
  readonly bytes: number;
  /** Why not by sendfile(2), or why none was sent. */
  readonly reason?: string;
  /** What to change. */
  readonly advice?: string;
  /** What went wrong: an error of the transfer, or other bytes than the file's. */
  readonly problem?: string;
}

/** What {@link sendfileReport} has found out. */
export interface SendfileReport {
  /** The version of this package. */
  readonly version: string;
  /** The operating system and the machine: `linux 6.18.5 x64`. */
  readonly system: string;
  /** `deno 2.9.6`, `bun 1.4.5`, … */
  readonly runtime: string;
  /** The name or path of the C library that was loaded; undefined where none was. */
  readonly libc?: string;
  /** Deno's permission to use it: for this library or for all, none; other runtimes need none. */
  readonly permission: "granted" | "missing" | "not needed";
  /** What the environment variable ZEROCOPY_SENDFILE says; undefined where it is not set or may not be read. */
  readonly environment?: string;
  /** The congestion control of a TCP connection on loopback; undefined where the system does not tell. */
  readonly congestionControl?: string;
  /** Whether sendfile(2) can be used in this process. */
  readonly available: boolean;
  /** Why not. */
  readonly reason?: string;
  /** What to change. */
  readonly advice?: string;
  /** Each kind of socket that this runtime has. */
  readonly sockets: readonly SocketReport[];
  /** Whether sendfile(2) is used wherever this runtime lets it be used, and every byte that was sent has arrived. */
  readonly ok: boolean;
}

/**
 * Finds out whether, and where, files go by sendfile(2) in this process: sends a part of the runtime's own program over
 * loopback on each kind of socket and compares what arrives. What is not permitted is left out, and the report says so;
 * nothing prompts. Takes a fraction of a second; each transfer 10 seconds at most. Does not reject.
 *
 * Source: sendfile(2); tcp(7), TCP_CONGESTION.
 *
 * @example Say at start what is not as it could be
 * ```ts no-eval
 * import { sendfileReport } from "@zerocopy/sendfile";
 *
 * const { ok, reason, advice, sockets } = await sendfileReport();
 * if (!ok) console.warn(`files are copied: ${reason}; ${advice}`, sockets);
 * ```
 */
export async function sendfileReport(): Promise<SendfileReport> {
  // Loaded when it is wanted: with node:http it would double the time that loading this package takes (measured).
  const { makeReport } = await import("./make_report.ts");
  return await makeReport([]);
}
