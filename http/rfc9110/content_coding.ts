import { quality } from "./quality.ts";

/** A content coding and the ending of the files that are in it. */
export interface Encoding {
  readonly name: string;
  readonly ending: string;
}

/** What is looked for, best first where the client has no preference. */
export const ENCODINGS: readonly Encoding[] = [
  { name: "br", ending: ".br" },
  { name: "zstd", ending: ".zst" },
  { name: "gzip", ending: ".gz" },
];

/**
 * The encodings of `offered` that an `Accept-Encoding` field takes, the most wanted first, and only those that it
 * wants no less than the file as it is. Without the field the file goes as it is. RFC 9110, 12.5.3.
 */
export function acceptedEncodings(
  field: string | null | undefined,
  offered: readonly Encoding[],
): Encoding[] {
  if (!field) return [];
  // Where the field names it in no way it is fine, but anything named is wanted more.
  const identity = quality(field, "identity", ["*"]) ?? 0;
  return offered
    .map((encoding) => ({ encoding, weight: weightOf(field, encoding) }))
    .filter(({ weight }) => weight > 0 && weight >= identity)
    .sort((a, b) => b.weight - a.weight) // stable: ours goes first among equals
    .map(({ encoding }) => encoding);
}

function weightOf(field: string, { name }: Encoding): number {
  return quality(field, name, name === "gzip" ? ["x-gzip", "*"] : ["*"]) ?? 0;
}
