import * as fs from "node:fs";
import { Failure } from "./arguments.ts";

/** Milliseconds without another change after which those that wait are told: a build writes many files. */
const SETTLED = 100;

/** Tells when something below a directory changes. */
export class Changes {
  readonly #watcher: fs.FSWatcher;
  readonly #dotfiles: boolean;
  readonly #waiting = new Set<() => void>();
  #last = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  /** `dotfiles`: whether names count that start with a dot, as in `.git`. Throws {@link Failure}. */
  constructor(root: string, dotfiles: boolean) {
    this.#dotfiles = dotfiles;
    try {
      this.#watcher = fs.watch(root, { recursive: true }, (_, name) => this.#changed(name));
    } catch (error) {
      throw new Failure(`cannot watch ${root}: ${(error as Error).message}`, 1);
    }
    // The limit of watches was reached by a directory that is new: those that were there before go on.
    this.#watcher.on("error", (error) => console.error(`watching ${root}: ${(error as Error).message}`));
  }

  #changed(name: string | null): void {
    if (!this.#dotfiles && name?.split(/[/\\]/).some((part) => part.startsWith("."))) return;
    this.#last = Date.now();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tell(), SETTLED);
  }

  #tell(): void {
    for (const wake of this.#waiting) wake();
  }

  /**
   * Resolves to whether something has changed since `since`, by the clock, which all workers share: at once where it
   * has, and otherwise when it does, or after `limit` milliseconds without a change.
   */
  async since(since: number, limit: number): Promise<boolean> {
    if (!this.#closed && this.#last <= since) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          this.#waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, limit);
        this.#waiting.add(wake);
      });
    }
    return this.#last > since;
  }

  /** Wakes all that wait. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#watcher.close();
    this.#tell();
  }
}
