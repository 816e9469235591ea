/** What the probes and the static server have to serve, and what their clients must get. */
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { get } from "node:http";
import { join } from "node:path";

/** More than a socket takes at once, and not a multiple of a page. */
const SIZE = 5 * 1024 * 1024 + 3;

/** A part of it, also more than what each server has its own way for. */
const RANGE = [4097, 4097 + 3 * 1024 * 1024] as const;

/** Writes the file that is asked for, and gives its content. */
export function makeFile(root: string): Buffer {
  const content = randomBytes(SIZE);
  fs.writeFileSync(join(root, "file.bin"), content);
  return content;
}

function fetchBody(port: number, headers: Record<string, string>, status: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, path: "/file.bin", headers, agent: false }, async (response) => {
      try {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk);
        if (response.statusCode !== status) throw new Error(`status ${response.statusCode}`);
        resolve(Buffer.concat(chunks));
      } catch (error) {
        reject(error);
      }
    }).on("error", reject);
  });
}

/** Asks for the whole file and for a part. Returns how many bytes that were; throws where others arrive. */
export async function compareBodies(port: number, content: Buffer): Promise<number> {
  const [first, last] = RANGE;
  const whole = await fetchBody(port, {}, 200);
  if (!whole.equals(content)) throw new Error("the bytes of the file differ");
  const part = await fetchBody(port, { range: `bytes=${first}-${last}` }, 206);
  if (!part.equals(content.subarray(first, last + 1))) throw new Error("the bytes of the range differ");
  return whole.length + part.length;
}
