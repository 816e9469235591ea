import type { Libc } from "../ffi/libc.ts";

/** A descriptor of a connected stream socket, seen to be the right one. */
export interface Descriptor {
  readonly fd: number;
  /** True: a duplicate that the holder closes. False: the runtime's own, which it may close at any await. */
  readonly owned: boolean;
  /**
   * Whether the runtime (or whoever owns the socket) still has this very connection open. `ours`: the duplicate that
   * the transfer holds.
   */
  alive(ours: number): boolean;
}

/** One kind of socket object, behind one face. */
export interface SocketAdapter {
  /**
   * Its descriptor, or the reason why the native way is closed to it. `held`: the caller keeps the socket open, so that
   * a descriptor that was found before is still the socket's.
   */
  open(libc: Libc, held?: boolean): Descriptor | string;
  /**
   * Writes some of `bytes` by the runtime's own means, once it has room for them; resolves to how many. `signal`
   * ends the wait for room.
   */
  write(bytes: Uint8Array, signal: AbortSignal): Promise<number>;
  /**
   * Present where the runtime buffers writes: runs `work` once all that was written before has left the runtime,
   * and holds back what is written meanwhile. `quiet`: no code of the caller's runs before `work` first waits; then it
   * can run at once where nothing was written before.
   */
  runInWriteOrder?(work: () => number | Promise<number>, quiet: boolean): number | Promise<number>;
  /** Present where no error of `write` tells: whether the runtime still has the socket open. */
  isOpen?(): boolean;
  /** Whether the runtime holds bytes that come before. Present where it buffers writes. */
  pending?(): boolean;
  /** Bytes that the peer's system has acknowledged; undefined where the system does not tell. */
  acknowledged?(libc: Libc): number | undefined;
  /** Tells the runtime that the socket is not idle. */
  touch?(): void;
  /** Present where the runtime does not know yet that the connection is gone. */
  lost?(): void;
  /** Ends the connection, which is left in the middle of something. */
  abandon(): void;
}
