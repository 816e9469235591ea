import type { Range } from "./range.ts";

/** A part of a body: a range of the file, and the header before it. */
export interface Part {
  readonly offset: number;
  readonly count: number;
  readonly header: string;
}

/** A body of one or several parts of a file. */
export interface Parts {
  readonly parts: readonly Part[];
  /** The text after the last part. */
  readonly trailer: string;
  /** Bytes in all. */
  readonly length: number;
}

/**
 * A multipart/byteranges body for several ranges of a file of `size` bytes. The boundary is random and new each time,
 * so that no file can contain it.
 *
 * Source: RFC 9110, 14.6; RFC 2046, 5.1.1.
 */
export function multipart(
  ranges: readonly Range[],
  type: string,
  size: number,
): Parts & { readonly boundary: string } {
  const boundary = crypto.randomUUID();
  const trailer = `\r\n--${boundary}--\r\n`;
  let length = trailer.length;
  const parts = ranges.map(({ offset, count }, i) => {
    const head = [
      `--${boundary}`,
      `Content-Type: ${type}`,
      `Content-Range: bytes ${offset}-${offset + count - 1}/${size}`,
    ];
    const header = `${i === 0 ? "" : "\r\n"}${head.join("\r\n")}\r\n\r\n`;
    length += header.length + count;
    return { header, offset, count };
  });
  return { boundary, parts, trailer, length };
}

/** Bytes of the file in all parts. */
export function countOf({ parts }: Pick<Parts, "parts">): number {
  return parts.reduce((sum, { count }) => sum + count, 0);
}

const text = new TextEncoder();

/**
 * Puts a body together in the first bytes of `into`, and returns these. `fill` writes the file's bytes from `offset` on
 * to a part of `into`.
 */
export function assemble(
  { parts, trailer, length }: Parts,
  into: Uint8Array<ArrayBuffer>,
  fill: (into: Uint8Array<ArrayBuffer>, offset: number) => void,
): Uint8Array<ArrayBuffer> {
  let at = 0;
  for (const { header, offset, count } of parts) {
    if (header !== "") at += text.encodeInto(header, into.subarray(at)).written;
    fill(into.subarray(at, at + count), offset);
    at += count;
  }
  if (trailer !== "") text.encodeInto(trailer, into.subarray(at));
  return into.subarray(0, length);
}
