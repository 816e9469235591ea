import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import * as zlib from "node:zlib";
import { type Encoding, ENCODINGS } from "../http/rfc9110/content_coding.ts";
import type { OpenFile } from "../http/root/open_file.ts";
import { TruncatedError } from "../http/send/body.ts";

/**
 * How each coding is made. Levels are those of servers that compress while a client waits: at 11, zlib's default for
 * Brotli, a megabyte takes two seconds.
 */
const MAKERS: Readonly<Record<string, (() => NodeJS.ReadWriteStream) | undefined>> = {
  br: () =>
    zlib.createBrotliCompress({
      params: {
        [zlib.constants.BROTLI_PARAM_QUALITY]: 4,
        [zlib.constants.BROTLI_PARAM_MODE]: zlib.constants.BROTLI_MODE_TEXT,
      },
    }),
  // Node.js has it since 22.15.
  zstd: typeof zlib.createZstdCompress === "function" ? () => zlib.createZstdCompress() : undefined,
  gzip: () => zlib.createGzip({ level: 6 }),
};

/** The codings that can be made here, best first where the client has no preference. */
export const MADE: readonly Encoding[] = ENCODINGS.filter(({ name }) => MAKERS[name] !== undefined);

/** Bytes that are compressed in one step: others have their turn between them. */
const PIECE = 64 * 1024;

/** All bytes of the open file in a coding of {@link MADE}. Rejects with what reading throws. */
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
