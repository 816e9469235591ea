import { libc as loadedLibc } from "../ffi/load.ts";
import { poller } from "../ffi/poller.ts";

/** Milliseconds between tries where no poller can tell when a socket has room again. */
const RETRY = 5;

/** Resolves when it is worth trying again to write to `fd`. */
export async function room(fd: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const libc = loadedLibc();
  if (typeof libc !== "string" && fd >= 0) return poller(libc).wait(fd, "writable", signal);
  await new Promise((resolve) => setTimeout(resolve, RETRY));
  signal.throwIfAborted();
}
