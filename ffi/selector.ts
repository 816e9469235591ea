import type { BlockingCall } from "./library.ts";

/** Called for each descriptor that became ready. An error or a hang-up makes both directions ready. */
export type Visit = (fd: number, token: number, readable: boolean, writable: boolean) => void;

/** The kernel's own readiness queue: epoll or kqueue. Results below zero are negated errnos. */
export interface Selector {
  /** Requests one event for `fd`; a second call for the same descriptor replaces the first. */
  arm(fd: number, token: number, read: boolean, write: boolean): number;
  /** Removes `fd`. Call it before `fd` is closed: a duplicate elsewhere would keep the entry alive. */
  disarm(fd: number): void;
  /** Makes the blocking call return although nothing is ready. */
  wake(): void;
  /** The call that waits, made in another thread. */
  readonly blocking: BlockingCall;
  /** Reads the events that the blocking call has written. */
  visit(result: number, events: Uint8Array, each: Visit): void;
  close(): void;
}
