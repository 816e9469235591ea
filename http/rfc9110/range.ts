/** A part of a file: `count` bytes from `offset` on. */
export interface Range {
  readonly offset: number;
  readonly count: number;
}

/**
 * The most ranges that we serve, more than any client needs; each costs the server a seek and a part header (RFC
 * 9110, 14.2).
 */
const MAX_RANGES = 16;

/** The unit `bytes`, in any case, and the ranges. */
const RANGES = /^\s*bytes\s*=(.*)$/i;

/** `first-last`, `first-` or `-suffix`. */
const SPEC = /^(\d*)-(\d*)$/;

/**
 * Parses a `Range` field for a file of `size` bytes. Returns the satisfiable ranges in the field's order; `[]` if
 * none is satisfiable (416); undefined if the field must be ignored: malformed, another unit, an empty file, too many
 * ranges, or together more bytes than the file has.
 *
 * Source: RFC 9110, 14.1.1, 14.2. A range that ends before it starts counts as unsatisfiable.
 */
export function parseRange(field: string, size: number): Range[] | undefined {
  const list = RANGES.exec(field)?.[1];
  if (list === undefined || size === 0) return undefined;
  const ranges: Range[] = [];
  let specs = 0;
  let total = 0;
  for (const element of list.split(",")) {
    const text = element.trim();
    if (text === "") continue; // RFC 9110, 5.6.1.2
    const match = SPEC.exec(text);
    if (!match || text === "-" || ++specs > MAX_RANGES) return undefined;
    const range = resolve(match[1], match[2], size);
    if (range === undefined) continue;
    total += range.count;
    ranges.push(range);
  }
  return specs === 0 || total > size ? undefined : ranges;
}

function resolve(first: string, last: string, size: number): Range | undefined {
  if (first === "") {
    const count = Math.min(Number(last), size);
    return count === 0 ? undefined : { offset: size - count, count };
  }
  // More digits than a number can hold round to a value above any file's size.
  const offset = Number(first);
  const end = last === "" ? size - 1 : Math.min(Number(last), size - 1);
  return offset > end ? undefined : { offset, count: end - offset + 1 };
}
