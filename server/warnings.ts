/** Milliseconds between two lines of one kind. */
const INTERVAL = 60_000;

/** Log lines about events that clients can cause at any rate: at most one per minute for each kind. */
export class Warnings {
  readonly #write: (line: string) => void;
  /** For each kind: when the last line was written (`performance.now()`), and how many were omitted since. */
  readonly #kinds = new Map<string, { at: number; omitted: number }>();

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** Writes `line`, unless one of its `kind` was written less than a minute ago. Kinds must be few. */
  warn(kind: string, line: string): void {
    const now = performance.now();
    const known = this.#kinds.get(kind);
    if (known && now - known.at < INTERVAL) {
      known.omitted++;
      return;
    }
    this.#kinds.set(kind, { at: now, omitted: 0 });
    this.#write(known?.omitted ? `${line} (and ${known.omitted} times more since the last such line)` : line);
  }
}
