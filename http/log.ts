/** What came of one response. */
export interface LogEntry {
  readonly method: string;
  /** As the client sent it. */
  readonly target: string;
  readonly status: number;
  /** Bytes of the body that were handed to the system. */
  readonly bytes: number;
  /** The way the body took: `sendfile`, `copy (reason)`, `native`, or `-` where no file was sent. */
  readonly way: string;
  /** What went wrong. */
  readonly problem?: string;
}

/** One line for the log. */
export function logLine({ method, target, status, bytes, way, problem }: LogEntry): string {
  return `${method} ${printable(target)} ${status} ${bytes} ${way}${problem ? ` (${problem})` : ""}`;
}

/** A client must not be able to write lines, or to the terminal. */
function printable(target: string): string {
  return target.replace(/[^\x21-\x7e]/g, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}
