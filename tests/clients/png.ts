/** Decodes a PNG, to count its colors. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { inflateSync } from "node:zlib";

interface Image {
  width: number;
  height: number;
  /** How often each color occurs. */
  colors: Map<number, number>;
}

/** A PNG of 8-bit RGB or RGBA, not interlaced. */
export function decodePng(png: Buffer): Image {
  assertEquals(png.subarray(0, 8).toString("latin1"), "\x89PNG\r\n\x1a\n");
  const chunks: [string, Buffer][] = [];
  for (let at = 8; at < png.length;) {
    const end = at + 8 + png.readUInt32BE(at);
    chunks.push([png.toString("latin1", at + 4, at + 8), png.subarray(at + 8, end)]);
    at = end + 4;
  }
  const header = chunks[0][1];
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  assertEquals([header[8], header[12]], [8, 0], "bit depth and interlacing");
  const channels = header[9] === 6 ? 4 : 3;
  const data = inflateSync(Buffer.concat(chunks.filter(([type]) => type === "IDAT").map(([, data]) => data)));
  const pixels = unfiltered(data, width * channels, channels);
  const colors = new Map<number, number>();
  for (let at = 0; at < pixels.length; at += channels) {
    const color = pixels.readUIntBE(at, 3);
    colors.set(color, (colors.get(color) ?? 0) + 1);
  }
  return { width, height, colors };
}

/** The samples of an image: each line of it was filtered (PNG, 9.2). */
function unfiltered(data: Buffer, stride: number, channels: number): Buffer {
  const height = data.length / (stride + 1);
  const pixels = Buffer.alloc(height * stride);
  for (let y = 0; y < height; y++) {
    const filter = data[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const at = y * stride + x;
      const left = x < channels ? 0 : pixels[at - channels];
      const up = y === 0 ? 0 : pixels[at - stride];
      const corner = x < channels || y === 0 ? 0 : pixels[at - stride - channels];
      const predicted = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      pixels[at] = data[y * (stride + 1) + 1 + x] + predicted;
    }
  }
  return pixels;
}

function paeth(left: number, up: number, corner: number): number {
  const estimate = left + up - corner;
  const [a, b, c] = [left, up, corner].map((value) => Math.abs(estimate - value));
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
