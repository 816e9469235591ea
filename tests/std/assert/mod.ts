/** Stand-in for `jsr:@std/assert` on machines that cannot reach JSR: the functions in use, over node:assert. */
import * as node from "node:assert";

// deno-lint-ignore no-explicit-any -- the published signature: any constructor of an error will do
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** Fails unless `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  node.ok(expr, (msg || undefined) as string);
}

/** Fails unless both are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  node.deepStrictEqual(actual, expected, msg as string);
}

/** Fails unless `actual` holds `expected`. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  node.ok(actual.includes(expected), msg ?? `${JSON.stringify(actual)} has no ${JSON.stringify(expected)}`);
}

function checkError<E extends Error>(
  error: unknown,
  type?: ErrorClass<E>,
  includes?: string,
): asserts error is E {
  if (type && !(error instanceof type)) {
    node.fail(`expected ${type.name}, got ${error instanceof Error ? error.stack : String(error)}`);
  }
  if (includes) assertStringIncludes((error as Error).message, includes);
}

/** Fails unless `fn` throws; returns what it threw. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  type?: ErrorClass<E>,
  includes?: string,
): E {
  let thrown: unknown;
  try {
    fn();
  } catch (error) {
    thrown = error;
    checkError(error, type, includes);
    return error as E;
  }
  node.fail(`expected ${type?.name ?? "an error"}, nothing was thrown (${String(thrown)})`);
}

/** Fails unless `fn` rejects; returns what it rejected with. */
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  type?: ErrorClass<E>,
  includes?: string,
): Promise<E> {
  try {
    await fn();
  } catch (error) {
    checkError(error, type, includes);
    return error as E;
  }
  node.fail(`expected ${type?.name ?? "an error"}, the promise resolved`);
}
