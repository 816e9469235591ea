import type { ServeAddr, Server, ServeSettings } from "./serve_types.ts";

/** The operations of a listening server. */
export interface Running {
  /** Ends all connections; resolves when they have ended. */
  close(): Promise<unknown>;
  /** Stops accepting, and resolves when every request under way has been answered. */
  stop(): Promise<unknown>;
  /** Whether the server keeps the process running. */
  keepAlive(on: boolean): void;
}

/**
 * The public object of a server that listens at `addr`. Calls `onListen`, and closes the server when `signal` is
 * aborted.
 */
export function serverOf(addr: ServeAddr, running: Running, { signal, onListen }: ServeSettings): Server {
  let finish = () => {};
  const finished = new Promise<void>((resolve) => finish = resolve);
  const abort = () => void running.close().then(finish);
  let stopping: Promise<void> | undefined;
  const shutdown = () =>
    stopping ??= running.stop().then(() => {
      signal?.removeEventListener("abort", abort);
      finish();
    });
  signal?.addEventListener("abort", abort, { once: true });
  if (signal?.aborted) abort();
  onListen(addr);
  return {
    addr,
    finished,
    shutdown,
    ref: () => running.keepAlive(true),
    unref: () => running.keepAlive(false),
    [Symbol.asyncDispose]: shutdown,
  };
}
