import { SendfileError } from "../errors.ts";
import type { Libc } from "./libc.ts";
import type { Watch } from "./library.ts";
import type { Selector } from "./selector.ts";

type Direction = "readable" | "writable";

interface Waiter {
  readonly direction: Direction;
  ready(): void;
  failed(error: Error): void;
}

/** All waiters for one descriptor. */
interface Entry {
  /** Distinguishes this registration from an earlier one of the same number, whose event may still be in the queue. */
  readonly token: number;
  readonly waiters: Set<Waiter>;
}

interface Open {
  readonly selector: Selector;
  readonly watch: Watch;
}

/**
 * One poller for all transfers of this thread: with a blocked thread for each, 32 slow clients would use up Deno's 32
 * threads. It is open only while there are waiters (and `linger` longer), so that it keeps neither the process alive
 * nor a descriptor open.
 */
export class Poller {
  readonly #libc: Libc;
  readonly #entries = new Map<number, Entry>();
  #open: Open | undefined;
  #tokens = 0;
  #linger: ReturnType<typeof setTimeout> | undefined;

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /** The number of descriptors that are waited for. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Resolves when `fd` is ready, has failed or was hung up on. The owner of `fd` keeps it open until then. Rejects
   * with {@link SendfileError} if the kernel refuses `fd`, or if the poller's thread has failed; the next wait then
   * starts a new poller.
   */
  wait(fd: number, direction: Direction, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#leave(fd, waiter);
        reject(signal!.reason);
      };
      const waiter: Waiter = {
        direction,
        ready() {
          signal?.removeEventListener("abort", abort);
          resolve();
        },
        failed(error) {
          signal?.removeEventListener("abort", abort);
          reject(error);
        },
      };
      this.#enter(fd, waiter);
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  #enter(fd: number, waiter: Waiter): void {
    const { selector, watch } = this.#open ??= this.#start();
    const entry = this.#entries.get(fd) ??
      { token: this.#tokens = (this.#tokens + 1) >>> 0, waiters: new Set() };
    entry.waiters.add(waiter);
    this.#entries.set(fd, entry);
    if (this.#arm(selector, fd, entry) < 0) {
      const error = this.#libc.lastError(`waiting for descriptor ${fd}`);
      this.#leave(fd, waiter);
      throw error;
    }
    clearTimeout(this.#linger);
    watch.start();
  }

  #arm(selector: Selector, fd: number, { token, waiters }: Entry): number {
    const wanted = new Set(Array.from(waiters, (waiter) => waiter.direction));
    return selector.arm(fd, token, wanted.has("readable"), wanted.has("writable"));
  }

  #leave(fd: number, waiter: Waiter): void {
    const entry = this.#entries.get(fd);
    if (!entry?.waiters.delete(waiter) || entry.waiters.size > 0) return;
    this.#remove(fd);
    this.#restIfIdle();
  }

  #remove(fd: number): void {
    this.#entries.delete(fd);
    this.#open?.selector.disarm(fd);
  }

  #start(): Open {
    const selector = this.#libc.openSelector();
    let watch: Watch;
    try {
      watch = this.#libc.library.watch(selector.blocking, {
        onReturn: (result, events) => {
          if (result < 0) this.#checkAll(selector);
          selector.visit(result, events, (fd, token, readable, writable) => {
            this.#report(selector, fd, token, readable, writable);
          });
          this.#restIfIdle();
        },
        onFailure: (error) => this.#fail(open, error),
      });
    } catch (error) {
      selector.close();
      throw failure(selector, error as Error);
    }
    const open = { selector, watch };
    return open;
  }

  /**
   * Handles a failure of the blocking call, whose errno belongs to another thread. It arms all descriptors again:
   * after a mere signal that works; if the selector is broken it fails, and the waiters get the error instead of
   * waiting forever.
   */
  #checkAll(selector: Selector): void {
    for (const [fd, entry] of this.#entries) {
      if (this.#arm(selector, fd, entry) >= 0) continue;
      const error = this.#libc.lastError(`waiting for descriptor ${fd}`);
      this.#entries.delete(fd);
      for (const waiter of entry.waiters) waiter.failed(error);
    }
  }

  /** Rejects all waiters with the error. The next wait starts a new poller. */
  #fail(open: Open, cause: Error): void {
    if (this.#open !== open) return;
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    clearTimeout(this.#linger);
    open.watch.rest();
    this.#retire(true);
    for (const { waiters } of entries) {
      for (const waiter of waiters) waiter.failed(failure(open.selector, cause));
    }
  }

  #report(selector: Selector, fd: number, token: number, readable: boolean, writable: boolean): void {
    const entry = this.#entries.get(fd);
    if (entry?.token !== token) return;
    for (const waiter of entry.waiters) {
      if (waiter.direction === "readable" ? readable : writable) {
        entry.waiters.delete(waiter);
        waiter.ready();
      }
    }
    if (entry.waiters.size === 0) this.#remove(fd);
    else this.#arm(selector, fd, entry);
  }

  #restIfIdle(): void {
    if (this.#entries.size > 0 || !this.#open) return;
    const { watch } = this.#open;
    const { linger } = this.#libc.library;
    const inside = watch.rest();
    if (linger === 0) return this.#retire(inside);
    clearTimeout(this.#linger);
    this.#linger = setTimeout(() => this.#retire(true), linger);
    unref(this.#linger);
  }

  /** Closes the selector and the watch. A later wait opens new ones. */
  #retire(inside: boolean): void {
    const open = this.#open;
    if (!open || this.#entries.size > 0) return;
    this.#open = undefined;
    // The order matters: the watch must know that it is closing before it is woken, and the descriptors may be closed
    // only when no thread can still be inside the call.
    const closed = open.watch.close();
    if (inside) open.selector.wake();
    closed.then(() => open.selector.close());
  }
}

/** The error for a poller whose thread failed, which is not an error of the system. */
function failure({ blocking: { symbol } }: Selector, cause: Error): SendfileError {
  return new SendfileError(`waiting for a socket failed: ${cause.message}`, {
    code: "EIO",
    syscall: symbol,
    cause,
  });
}

function unref(timer: ReturnType<typeof setTimeout> | number): void {
  if (typeof timer === "number") Deno.unrefTimer(timer);
  else timer.unref();
}

const pollers = new WeakMap<Libc, Poller>();

/** The poller of this thread for `libc`. */
export function poller(libc: Libc): Poller {
  let found = pollers.get(libc);
  if (!found) pollers.set(libc, found = new Poller(libc));
  return found;
}
