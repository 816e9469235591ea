/** One suite for both runtimes: `test` is `Deno.test` or `bun:test`'s. */
import process from "node:process";
import { codeOf } from "../../reasons.ts";
import { counters } from "../../transfer/stats.ts";

export const isBun = "Bun" in globalThis;
export const runtime: "deno" | "bun" = isBun ? "bun" : "deno";

/** Milliseconds after which a test has hung, where it says no other time. */
const TIMEOUT = 60_000;

interface BunTest {
  test: ((name: string, body: () => unknown, timeout: number) => void) & {
    skip(name: string, body: () => void): void;
  };
}

/** How a test is registered. */
export interface TestOptions {
  /** The reason not to run it, which its name then shows. */
  skip?: string;
  /** The one runtime that has what it tests; on the other it does not exist. */
  only?: typeof runtime;
  /** Milliseconds after which it has hung. */
  timeout?: number;
}

/** Registers a test. */
export function test(
  name: string,
  body: () => void | Promise<void>,
  { skip, only = runtime, timeout = TIMEOUT }: TestOptions = {},
): void {
  if (only !== runtime) return;
  const shown = skip ? `${name} [skipped: ${skip}]` : name;
  if (!isBun) {
    // Descriptors and operations are counted by the tests themselves, in the same way on both runtimes.
    Deno.test({ name: shown, ignore: skip !== undefined, fn: () => within(body, timeout) });
    return;
  }
  const { test } = process.getBuiltinModule("bun:test") as unknown as BunTest;
  if (skip) test.skip(shown, () => {});
  else {
    test(shown, async () => {
      await body();
      checkReasons();
    }, timeout);
  }
}

/** Reasons that were seen to have no code: each fails the one test that came upon it. */
const seen = new Set<string>();

/** Throws where sendfile(2) was not used for a reason without a code. A test that makes one up says that it is a test's. */
function checkReasons(): void {
  const unknown = Object.keys(counters.reasons).filter((text) =>
    codeOf(text) === "other" && !/test/.test(text) && !seen.has(text)
  );
  for (const text of unknown) seen.add(text);
  if (unknown.length > 0) throw new Error(`reasons without a code: ${unknown.join("; ")}`);
}

async function within(body: () => void | Promise<void>, timeout: number): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`still running after ${timeout} ms`)), timeout);
  try {
    await Promise.race([body(), promise]);
    checkReasons();
  } finally {
    clearTimeout(timer);
  }
}
