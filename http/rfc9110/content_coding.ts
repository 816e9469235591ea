import { quality } from "./quality.ts";

/** A content coding and the ending of the files in that coding. */
export interface Encoding {
  readonly name: string;
  readonly ending: string;
}

/** The supported codings, best first. The order decides if the client has no preference. */
export const ENCODINGS: readonly Encoding[] = [
  { name: "br", ending: ".br" },
  { name: "zstd", ending: ".zst" },
  { name: "gzip", ending: ".gz" },
];

/**
 * The encodings of `offered` that an `Accept-Encoding` field accepts, most preferred first, without those that it
 * prefers less than the uncompressed file. Without the field there are none. RFC 9110, 12.5.3.
 */
export function acceptedEncodings(
  field: string | null | undefined,
  offered: readonly Encoding[],
): Encoding[] {
  if (!field) return [];
  // If the field does not mention identity, it is acceptable, but every coding that the field names is preferred.
  const identity = quality(field, "identity", ["*"]) ?? 0;
  return offered
    .map((encoding) => ({ encoding, weight: weightOf(field, encoding) }))
    .filter(({ weight }) => weight > 0 && weight >= identity)
    .sort((a, b) => b.weight - a.weight) // stable: our order decides among equals
    .map(({ encoding }) => encoding);
}

function weightOf(field: string, { name }: Encoding): number {
  return quality(field, name, name === "gzip" ? ["x-gzip", "*"] : ["*"]) ?? 0;
}
