/** The example of a video page: what a player asks for, by hand and by chromium. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { Browser } from "../support/browser.ts";
import { bytes, folder } from "../support/data.ts";
import { type Example, withExample } from "../support/example.ts";
import { test } from "../support/harness.ts";
import { ask, assertSame } from "../support/http_client.ts";
import { missing, until } from "../support/site.ts";

/** Bytes of sound per second. */
const RATE = 2 * 48_000;

/** Mono sound in 16 bits: the one format that every player seeks in and a test can write. */
function wav(samples: Uint8Array): Buffer {
  const { length } = samples;
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.writeUInt32LE(36 + length, 4);
  head.write("WAVEfmt ", 8);
  head.writeUInt32LE(16, 16); // the length of what describes the format
  head.writeUInt16LE(1, 20); // PCM
  head.writeUInt16LE(1, 22); // channels
  head.writeUInt32LE(RATE / 2, 24); // samples per second
  head.writeUInt32LE(RATE, 28);
  head.writeUInt16LE(2, 32); // bytes of a sample
  head.writeUInt16LE(16, 34); // and bits
  head.write("data", 36);
  head.writeUInt32LE(length, 40);
  return Buffer.concat([head, samples]);
}

async function withVideo(
  samples: Uint8Array,
  body: (example: Example, port: number, content: Buffer) => Promise<void>,
): Promise<void> {
  const root = folder();
  const file = join(root, "video.wav");
  const content = wav(samples);
  fs.writeFileSync(file, content);
  try {
    await withExample(
      ["video", file, "0"],
      async (example) => body(example, await example.port(), content),
    );
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

test("the video example answers what players ask for", () =>
  withVideo(bytes(60 * RATE), async (example, port, content) => {
    const page = await ask(port, "/");
    assertEquals(page.headers["content-type"], "text/html; charset=utf-8");
    assertStringIncludes(String(page.body), 'src="/video"');
    const size = content.length;
    const { headers } = await ask(port, "/video", { method: "HEAD" });
    assertEquals([headers["accept-ranges"], headers["content-length"]], ["bytes", `${size}`]);
    // Safari begins with two bytes, others with all; an index at the end; a seek.
    const ranges: [field: string, from: number, to: number][] = [
      ["0-1", 0, 2],
      ["0-", 0, size],
      ["-65536", size - 65_536, size],
      [`${30 * RATE}-`, 30 * RATE, size],
    ];
    for (const [field, from, to] of ranges) {
      const fields = `Range: bytes=${field}\r\nIf-Range: ${headers.etag}\r\n`;
      const { status, headers: { "content-range": range }, body } = await ask(port, "/video", { fields });
      assertEquals([status, range], [206, `bytes ${from}-${to - 1}/${size}`]);
      assertSame(body, content.subarray(from, to), field);
    }
    assertEquals((await ask(port, "/video", { fields: `Range: bytes=${size}-\r\n` })).status, 416);
    assertEquals((await ask(port, "/missing")).status, 404);
    assert(example.code === undefined, example.output);
  }));

/** More than a player loads ahead. */
const SECONDS = 600;

test(
  "chromium seeks in the video example's page, by ranges",
  () =>
    withVideo(new Uint8Array(SECONDS * RATE), async (example, port) => {
      const browser = await Browser.start();
      try {
        await browser.open(`http://127.0.0.1:${port}/`);
        const video = `document.querySelector("video")`;
        assertEquals(
          await browser.value(`new Promise((resolve, reject) => {
          const look = () => ${video}.readyState >= 1 && resolve(${video}.duration);
          ${video}.onloadedmetadata = look;
          ${video}.onerror = () => reject(${video}.error);
          look();
        })`),
          SECONDS,
        );
        assertStringIncludes(example.output, "bytes=0- 206");
        const seconds = 450;
        assertEquals(
          await browser.value(`new Promise((resolve) => {
          ${video}.onseeked = () => resolve(${video}.currentTime);
          ${video}.currentTime = ${seconds};
        })`),
          seconds,
        );
        await until(
          () =>
            [...example.output.matchAll(/^bytes=(\d+)-\d* 206$/gm)].some(([, from]) =>
              Math.abs(Number(from) - seconds * RATE) < 5 * RATE
            ),
          `a range from second ${seconds} on: ${example.output}`,
        );
        // A player that cancels what it does not need is no error.
        assert(/^http\S+\n(bytes=\d+-\d* 206\n)+$/.test(example.output), example.output);
      } finally {
        await browser.close();
      }
    }),
  { skip: missing("chromium") },
);
