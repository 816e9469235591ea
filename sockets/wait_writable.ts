import { isExhausted } from "./exhausted.ts";
import type { Libc } from "../ffi/libc.ts";
import { libc as loadedLibc } from "../ffi/load.ts";
import { poller } from "../ffi/poller.ts";
import { sleep } from "../runtime.ts";

/** Milliseconds between attempts if no poller can report when a socket has room again. */
const RETRY = 5;

/** Resolves when a write to `fd` is worth another attempt. */
export async function room(fd: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const libc = loadedLibc();
  if (typeof libc !== "string" && fd >= 0) return untilWritable(libc, fd, signal);
  await sleep(RETRY, signal);
}

/**
 * Waits until the poller reports room in the socket `fd`. If no descriptor is left for the poller, sleeps for a few
 * milliseconds.
 */
export async function untilWritable(libc: Libc, fd: number, signal: AbortSignal): Promise<void> {
  try {
    await poller(libc).wait(fd, "writable", signal);
  } catch (error) {
    if (!isExhausted(error)) throw error;
    await sleep(RETRY, signal);
  }
}
