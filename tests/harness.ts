/** One suite for both runtimes: `test` is `Deno.test` or `bun:test`'s. */
import process from "node:process";

export const isBun = "Bun" in globalThis;
export const runtime: "deno" | "bun" = isBun ? "bun" : "deno";

/** Milliseconds after which a test has hung. */
const TIMEOUT = 60_000;

interface BunTest {
  test: ((name: string, body: () => unknown, timeout: number) => void) & {
    skip(name: string, body: () => void): void;
  };
}

/** Registers a test. `skip`: the reason not to run it, which its name then shows. */
export function test(name: string, body: () => void | Promise<void>, { skip }: { skip?: string } = {}): void {
  const shown = skip ? `${name} [skipped: ${skip}]` : name;
  if (!isBun) {
    // Descriptors and operations are counted by the tests themselves, in the same way on both runtimes.
    Deno.test({ name: shown, ignore: skip !== undefined, fn: () => within(body) });
    return;
  }
  const { test } = process.getBuiltinModule("bun:test") as unknown as BunTest;
  if (skip) test.skip(shown, () => {});
  else test(shown, body as () => unknown, TIMEOUT);
}

async function within(body: () => void | Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`still running after ${TIMEOUT} ms`)), TIMEOUT);
  try {
    await Promise.race([body(), promise]);
  } finally {
    clearTimeout(timer);
  }
}
