import type { Libc } from "../ffi/libc.ts";

/** A descriptor of a connected stream socket that has been verified to be that socket's. */
export interface Descriptor {
  readonly fd: number;
  /**
   * True: a duplicate, which the holder closes. False: the runtime's own descriptor, which the runtime may close during
   * any await.
   */
  readonly owned: boolean;
  /**
   * Whether the runtime (or the owner of the socket) still has this same connection open. `ours` is the duplicate that
   * the transfer holds.
   */
  alive(ours: number): boolean;
}

/** Gives every kind of socket object the same interface. */
export interface SocketAdapter {
  /**
   * Returns the socket's descriptor, or the reason why sendfile(2) cannot be used with it. `held`: the caller keeps the
   * socket open, so a descriptor found earlier is still valid.
   */
  open(libc: Libc, held?: boolean): Descriptor | string;
  /**
   * Waits until the runtime's own write accepts some of `bytes`, and resolves to how many it accepted. `signal` ends
   * the wait.
   */
  write(bytes: Uint8Array, signal: AbortSignal): Promise<number>;
  /**
   * Present if the runtime buffers writes. Runs `work` after all earlier writes have left the runtime, and holds back
   * later writes until `work` ends. `quiet`: none of the caller's code runs before `work` first awaits; `work` can then
   * start at once if no earlier write is pending.
   */
  runInWriteOrder?(work: () => number | Promise<number>, quiet: boolean): number | Promise<number>;
  /** Whether the runtime still has the socket open. Present if `write` does not report that by an error. */
  isOpen?(): boolean;
  /** Whether the runtime still holds earlier bytes. Present if it buffers writes. */
  pending?(): boolean;
  /** The number of sent bytes that the peer's system has acknowledged; undefined if the system does not report it. */
  acknowledged?(libc: Libc): number | undefined;
  /** Restarts the runtime's idle timer of the socket. */
  touch?(): void;
  /** Called when the connection is lost. Present if the runtime does not notice that by itself. */
  lost?(): void;
  /** Ends the connection in the middle of a transfer. */
  abandon(): void;
}
