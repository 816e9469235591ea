import { setImmediate } from "node:timers";

/** Deno 2.8's setImmediate does not wake an event loop that has gone to sleep. */
const sleeps = "Deno" in globalThis && Deno.version.deno.startsWith("2.8.");

/** One turn of the event loop: everybody else has theirs. */
export function turn(): Promise<void> {
  return new Promise((resolve) => sleeps ? setTimeout(resolve) : setImmediate(resolve));
}
