/** The default limit in milliseconds. */
const LIMIT = 120_000;

let limit = LIMIT;

/** Milliseconds without any acknowledgement after which we give a client up. */
export function stallLimit(): number {
  return limit;
}

/** For tests: sets another limit in milliseconds; undefined restores the default. */
export function replaceStallLimit(replacement: number | undefined): void {
  limit = replacement ?? LIMIT;
}
