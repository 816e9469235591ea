/** A browser: media, ranges, its cache, a page with all that belongs to it. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { test } from "../support/harness.ts";
import { LARGE, MIB, missing, serving, until } from "../support/site.ts";
import { chromium, inChromium } from "./chromium_runs.ts";
import { addOld, answered, logged, sha256, SIZE } from "./programs.ts";

/** Two minutes of a tone: PCM, 16 bits, two channels, 44100 Hz. */
function wav(size: number): Buffer {
  const period = Buffer.alloc(400);
  for (let i = 0; i < 100; i++) {
    const sample = Math.round(8000 * Math.sin(2 * Math.PI * i / 100));
    period.writeInt16LE(sample, 4 * i);
    period.writeInt16LE(sample, 4 * i + 2);
  }
  const file = Buffer.alloc(size, period);
  file.write("RIFF", 0, "latin1");
  file.writeUInt32LE(size - 8, 4);
  file.write("WAVEfmt ", 8, "latin1");
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(2, 22);
  file.writeUInt32LE(44_100, 24);
  file.writeUInt32LE(4 * 44_100, 28);
  file.writeUInt16LE(4, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36, "latin1");
  file.writeUInt32LE(size - 44, 40);
  return file;
}

test(
  "chromium seeks near the end of a sound file, and plays it from there",
  () =>
    serving(async (server, site) => {
      addOld(site, "tone.wav", wav(SIZE));
      const text = await inChromium(
        server,
        site,
        `
      const audio = document.body.appendChild(document.createElement("audio"));
      const event = (name) => new Promise((resolve, reject) => {
        audio.addEventListener(name, resolve, { once: true });
        audio.addEventListener("error", () => reject(audio.error.message), { once: true });
      });
      const metadata = event("loadedmetadata");
      audio.preload = "metadata";
      audio.src = "/tone.wav";
      await metadata;
      const seeked = event("seeked");
      audio.currentTime = Math.floor(audio.duration) - 1;
      await seeked;
      const text = "seeked " + audio.currentTime + " of " + audio.duration.toFixed(1);
      const ended = event("ended");
      await audio.play();
      await ended;
      return text + ", played to " + audio.currentTime.toFixed(1);`,
      );
      assertEquals(text, "seeked 117 of 118.9, played to 118.9");
      // The first request was for the whole file, so seeking needs a second one.
      await until(() => {
        const ranges = logged(server, "/tone.wav").filter(({ status }) => status === 206);
        return ranges.length >= 2 && ranges.some(({ bytes }) => bytes < MIB);
      }, `two ranges in the log:\n${server.lines.join("\n")}`);
    }),
  { skip: missing("chromium") },
);

test(
  "chromium fetches a file and a range of it, which hash to the same",
  () =>
    serving(async (server, site) => {
      const text = await inChromium(
        server,
        site,
        `
      const hash = async (response) => {
        const digest = await crypto.subtle.digest("SHA-256", await response.arrayBuffer());
        return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      };
      const whole = await fetch("${LARGE}", { cache: "no-store" });
      const headers = { Range: "bytes=1000001-9999999" };
      const part = await fetch("${LARGE}", { cache: "no-store", headers });
      const range = part.headers.get("Content-Range");
      return [whole.status, await hash(whole), part.status, range, await hash(part)].join(" ");`,
      );
      const content = site.files.get(LARGE)!;
      const range = `bytes 1000001-9999999/${SIZE}`;
      assertEquals(
        text,
        `200 ${sha256(content)} 206 ${range} ${sha256(content.subarray(1_000_001, 10_000_000))}`,
      );
      assertEquals(await answered(server, LARGE, 206), { status: 206, bytes: 8_999_999 });
    }),
  { skip: missing("chromium") },
);

test("chromium revalidates files in its cache", () =>
  serving(async (server, site) => {
    addOld(site, "old.bin", randomBytes(65537));
    const text = await inChromium(
      server,
      site,
      `
      const sizes = [];
      for (const cache of ["default", "no-cache"]) {
        const response = await fetch("/old.bin", { cache });
        sizes.push(response.status, (await response.arrayBuffer()).byteLength);
      }
      return sizes.join(" ");`,
    );
    assertEquals(text, "200 65537 200 65537");
    await answered(server, "/old.bin", 304);
    assertEquals(logged(server, "/old.bin"), [{ status: 200, bytes: 65537 }, { status: 304, bytes: 0 }]);
  }), { skip: missing("chromium") });

const STYLED_PAGE = `<!doctype html>
<link rel="stylesheet" href="style.css">
<p id="p">not yet</p><img id="i" src="dot.png">
<script src="script.js"></script>`;

const PAGE_SCRIPT = `addEventListener("load", () => {
  const color = getComputedStyle(document.querySelector("p")).color;
  document.querySelector("p").textContent = "color " + color + ", image " + document.images[0].naturalWidth;
});`;

const DOT =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

test("chromium shows a page with its style, script and image", () =>
  serving(async ({ port }, site) => {
    site.add("page/index.html", STYLED_PAGE);
    site.add("page/style.css", `p { color: rgb(1, 2, 3) } /* ${"x".repeat(MIB)} */`);
    site.add("page/script.js", PAGE_SCRIPT);
    site.add("page/dot.png", Buffer.from(DOT, "base64"));
    const dom = await chromium(site, "--dump-dom", `http://127.0.0.1:${port}/page`);
    assertStringIncludes(dom, "color rgb(1, 2, 3), image 1");
  }), { skip: missing("chromium") });
