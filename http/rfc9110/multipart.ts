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

/** The bytes of a body whose parts are ranges of `content`. A single range without a header is a view, not a copy. */
export function assemble(
  { parts, trailer, length }: Parts,
  content: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  const [{ offset, count, header }] = parts;
  if (parts.length === 1 && header === "" && trailer === "") return content.subarray(offset, offset + count);
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const { offset, count, header } of parts) {
    at += text.encodeInto(header, bytes.subarray(at)).written;
    bytes.set(content.subarray(offset, offset + count), at);
    at += count;
  }
  text.encodeInto(trailer, bytes.subarray(at));
  return bytes;
}
