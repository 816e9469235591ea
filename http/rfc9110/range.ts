/** A part of a file: `count` bytes from `offset` on. */
export interface Range {
  readonly offset: number;
  readonly count: number;
}

/** More ranges than any client needs; each is a seek and a head for the server (RFC 9110, 14.2). */
const MAX_RANGES = 16;

/** `bytes`, in any case, and its ranges. */
const RANGES = /^\s*bytes\s*=(.*)$/i;

/** `first-last`, `first-` or `-suffix`. */
const SPEC = /^(\d*)-(\d*)$/;

/**
 * The ranges of a file of `size` bytes that a `Range` field asks for, those that can be satisfied, in its order;
 * none of them: `[]` (416). Undefined where the field is to be ignored: malformed, another unit, an empty file, too
 * many ranges, or more bytes together than the file has.
 *
 * Source: RFC 9110, 14.1.1, 14.2. A range that ends before it starts counts as one that cannot be satisfied.
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
  // More digits than a number has round to one that is beyond any file.
  const offset = Number(first);
  const end = last === "" ? size - 1 : Math.min(Number(last), size - 1);
  return offset > end ? undefined : { offset, count: end - offset + 1 };
}
