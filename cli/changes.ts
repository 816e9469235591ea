import * as fs from "node:fs";
import { Failure } from "./arguments.ts";

/** Milliseconds without another change before waiting pages are notified: a build writes many files. */
const SETTLED = 100;

/** Watches a directory tree for changes. */
export class Changes {
  readonly #watcher: fs.FSWatcher;
  readonly #dotfiles: boolean;
  readonly #waiting = new Set<() => void>();
  #last = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  /** `dotfiles`: whether names that start with a dot count, such as `.git`. Throws {@link Failure}. */
  constructor(root: string, dotfiles: boolean) {
    this.#dotfiles = dotfiles;
    try {
      this.#watcher = fs.watch(root, { recursive: true }, (_, name) => this.#changed(name));
    } catch (error) {
      throw new Failure(`cannot watch ${root}: ${(error as Error).message}`, 1);
    }
    // A new directory reached the limit of watches; the existing watches continue.
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
   * Resolves to whether something has changed since `since` (clock time, so that all workers agree): at once if it
   * has, otherwise at the next change, or after `limit` milliseconds without one.
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

  /** Stops watching and wakes all waiters. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#watcher.close();
    this.#tell();
  }
}
