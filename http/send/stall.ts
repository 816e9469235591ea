/** How long a client may take nothing of a response. */
const LIMIT = 120_000;

let limit = LIMIT;

/** Milliseconds for which a client may acknowledge nothing of a body before it is given up. */
export function stallLimit(): number {
  return limit;
}

/** For tests: another limit in milliseconds, or (undefined) the usual one. */
export function replaceStallLimit(replacement: number | undefined): void {
  limit = replacement ?? LIMIT;
}
