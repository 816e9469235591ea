import { isExhausted } from "./exhausted.ts";
import type { Libc } from "../ffi/libc.ts";
import { libc as loadedLibc } from "../ffi/load.ts";
import { poller } from "../ffi/poller.ts";
import { sleep } from "../runtime.ts";

/** Milliseconds between tries where no poller can tell when a socket has room again. */
const RETRY = 5;

/** Resolves when it is worth trying again to write to `fd`. */
export async function room(fd: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const libc = loadedLibc();
  if (typeof libc !== "string" && fd >= 0) return untilWritable(libc, fd, signal);
  await sleep(RETRY, signal);
}

/** Waits by the poller for room in the socket `fd`, or for some time, where no descriptors are left for a poller. */
export async function untilWritable(libc: Libc, fd: number, signal: AbortSignal): Promise<void> {
  try {
    await poller(libc).wait(fd, "writable", signal);
  } catch (error) {
    if (!isExhausted(error)) throw error;
    await sleep(RETRY, signal);
  }
}
