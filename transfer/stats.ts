import { codeOf, type ReasonCode } from "../reasons.ts";

/** Counters of this thread since its start, which prove whether the fast path ran. */
export interface SendfileStats {
  /** Transfers that began by sendfile(2), the number of calls, and the bytes of files sent by them. */
  sendfile: { transfers: number; calls: number; bytes: number };
  /**
   * Transfers that were copied by read and write, also after a beginning by sendfile(2), and the bytes of files sent
   * so.
   */
  copy: { transfers: number; bytes: number };
  /**
   * File bodies that `withSendfile` left to the server. `sendfile`: those of them that the server itself sends by
   * sendfile(2), as Bun.serve does.
   */
  native: { transfers: number; sendfile: number };
  /** How often a transfer waited for its socket to become writable. */
  waits: number;
  /** How often a transfer waited for the disk because its file was not in memory. */
  diskWaits: number;
  /** How many transfers were copied or left to the server, by reason. */
  reasons: Record<string, number>;
  /** The same by the reasons' stable codes, which do not change when a text is improved. */
  codes: Partial<Record<ReasonCode, number>>;
}

function zero(): SendfileStats {
  return {
    sendfile: { transfers: 0, calls: 0, bytes: 0 },
    copy: { transfers: 0, bytes: 0 },
    native: { transfers: 0, sendfile: 0 },
    waits: 0,
    diskWaits: 0,
    reasons: {},
    codes: {},
  };
}

/** The counters that the transfers write. */
export const counters: SendfileStats = zero();

/** Counts a reason why sendfile(2) was not used. */
export function count(reason: string): void {
  const { reasons, codes } = counters;
  const code = codeOf(reason);
  reasons[reason] = (reasons[reason] ?? 0) + 1;
  codes[code] = (codes[code] ?? 0) + 1;
}

/**
 * A copy of the counters of this thread.
 *
 * @example Prove that no file was copied
 * ```ts
 * import { sendfileStats } from "@zerocopy/sendfile";
 *
 * const { sendfile, copy, reasons } = sendfileStats();
 * console.log(`${sendfile.bytes} bytes by sendfile, ${copy.bytes} copied`, reasons);
 * ```
 */
export function sendfileStats(): SendfileStats {
  return structuredClone(counters);
}
