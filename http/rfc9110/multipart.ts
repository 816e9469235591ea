import type { Range } from "./range.ts";

/** Bytes of a body: a range of the file, and what goes before it. */
export interface Part {
  readonly offset: number;
  readonly count: number;
  readonly header: string;
}

/** What several parts of a file are sent as. */
export interface Parts {
  readonly parts: readonly Part[];
  /** What follows the last part. */
  readonly trailer: string;
  /** Bytes in all. */
  readonly length: number;
}

/**
 * Several ranges of a file of `size` bytes as a multipart/byteranges body. The boundary is not to be found in any
 * file: it is new each time.
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
