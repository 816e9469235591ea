import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import * as zlib from "node:zlib";
import { type Encoding, ENCODINGS } from "../http/rfc9110/content_coding.ts";
import type { OpenFile } from "../http/root/open_file.ts";
import { TruncatedError } from "../http/send/body.ts";

/**
 * The compressor for each coding. Levels are those that servers use for compression on the fly: at 11, zlib's default
 * for Brotli, a megabyte takes two seconds.
 */
const MAKERS: Readonly<Record<string, (() => NodeJS.ReadWriteStream) | undefined>> = {
  br: () =>
    zlib.createBrotliCompress({
      params: {
        [zlib.constants.BROTLI_PARAM_QUALITY]: 4,
        [zlib.constants.BROTLI_PARAM_MODE]: zlib.constants.BROTLI_MODE_TEXT,
      },
    }),
  // Node.js has zstd since 22.15.
  zstd: typeof zlib.createZstdCompress === "function" ? () => zlib.createZstdCompress() : undefined,
  gzip: () => zlib.createGzip({ level: 6 }),
};

/** The codings that this runtime can produce, best first. The order decides if the client has no preference. */
export const MADE: readonly Encoding[] = ENCODINGS.filter(({ name }) => MAKERS[name] !== undefined);

/** Bytes compressed in one step; between steps we yield to the event loop. */
const PIECE = 64 * 1024;

/** Compresses an open file with a coding of {@link MADE}. Rejects with the errors of reading. */
export async function compressFile(file: OpenFile, { name }: Encoding): Promise<Buffer<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  await pipeline(Readable.from(pieces(file)), MAKERS[name]!(), async (made) => {
    for await (const chunk of made) chunks.push(chunk as Uint8Array);
  });
  return Buffer.concat(chunks);
}

async function* pieces({ fd, size }: OpenFile): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < size;) {
    const piece = await read(fd, Math.min(PIECE, size - at), at);
    at += piece.length;
    yield piece;
  }
}

function read(fd: number, count: number, offset: number): Promise<Uint8Array> {
  const piece = new Uint8Array(count); // a new one each time: the stream keeps it
  return new Promise((resolve, reject) => {
    fs.read(fd, piece, 0, count, offset, (error, bytes) => {
      if (error) reject(error);
      else if (bytes === 0) reject(new TruncatedError());
      else resolve(piece.subarray(0, bytes));
    });
  });
}
