import type { Libc } from "./libc.ts";
import type { Watch } from "./library.ts";
import type { Selector } from "./selector.ts";

type Direction = "readable" | "writable";

interface Waiter {
  readonly direction: Direction;
  readonly ready: () => void;
}

/** All that wait for one descriptor. */
interface Entry {
  /** Tells this registration from an earlier one of the same number, whose report may still be under way. */
  readonly token: number;
  readonly waiters: Set<Waiter>;
}

interface Open {
  readonly selector: Selector;
  readonly watch: Watch;
}

/**
 * One for all transfers of this thread: a blocked thread for each would use up Deno's 32 after 32 slow clients.
 * Open only while somebody waits (and `linger` longer), so that it keeps neither process nor descriptor.
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

  /** Descriptors waited for at this moment. */
  get size(): number {
    return this.#entries.size;
  }

  /** Resolves when `fd` is ready, has failed or was hung up on. The owner of `fd` keeps it open until then. */
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
    const watch = this.#libc.library.watch(selector.blocking, (result, events) => {
      selector.visit(result, events, (fd, token, readable, writable) => {
        this.#report(selector, fd, token, readable, writable);
      });
      this.#restIfIdle();
    });
    return { selector, watch };
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

  /** Closes what was open; a wait that comes now opens anew. */
  #retire(inside: boolean): void {
    const open = this.#open;
    if (!open || this.#entries.size > 0) return;
    this.#open = undefined;
    // The order matters: the watch must know that it is over before it is woken, and the descriptors may go only
    // when no thread can still be inside the call.
    const closed = open.watch.close();
    if (inside) open.selector.wake();
    closed.then(() => open.selector.close());
  }
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
