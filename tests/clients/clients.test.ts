/** The static server as the programs see it that people use: downloaders, a browser, a package manager. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import { type ChildProcessByStdio, spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import type { Readable } from "node:stream";
import { brotliCompressSync, gzipSync, inflateSync } from "node:zlib";
import { test } from "../support/harness.ts";
import { ask, assertSame, DEADLINE } from "../support/http_client.ts";
import { MIB, missing, type Server, serving, type Site, until } from "../support/site.ts";

const SIZE = 20 * MIB;
const LARGE = `/${SIZE}.bin`;

/** Long ago, so that `Last-Modified` is a strong validator (RFC 9110, 8.8.2.2). */
const MODIFIED = new Date("2021-03-04T05:06:07Z");

/** Why a test that needs all of `commands` is skipped. */
function lacking(...commands: string[]): string | undefined {
  return commands.map(missing).find((reason) => reason !== undefined);
}

interface Outcome {
  stdout: Buffer;
  stderr: string;
  code: number | null;
}

/** Starts a command in `cwd`, away from the configuration and the proxies of whoever runs the tests. */
function start(
  cwd: string,
  command: string,
  args: string[],
  env: Record<string, string> = {},
): ChildProcessByStdio<null, Readable, Readable> {
  const { PATH = "" } = process.env;
  return spawn(command, args, {
    cwd,
    env: { PATH, HOME: cwd, LC_ALL: "C.UTF-8", TZ: "UTC", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Runs a command as `start` starts it. */
async function run(...command: Parameters<typeof start>): Promise<Outcome> {
  const child = start(...command);
  const chunks: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (chunk) => chunks.push(chunk));
  child.stderr.on("data", (chunk) => stderr += chunk);
  const timer = setTimeout(() => child.kill("SIGKILL"), 2 * DEADLINE);
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  return { stdout: Buffer.concat(chunks), stderr, code };
}

/** What a command writes, which must succeed. */
async function output(...[cwd, command, args, env]: Parameters<typeof run>): Promise<string> {
  const { stdout, stderr, code } = await run(cwd, command, args, env);
  assertEquals(code, 0, `${command} ${args.join(" ")}: exit code ${code}\n${stderr}${stdout}`);
  return String(stdout);
}

/** curl, without its configuration file. */
function curl(site: Site, ...args: string[]): Promise<string> {
  return output(site.base, "curl", ["-q", "-sS", "-f", ...args]);
}

function urlOf({ port }: Server, target: string): string {
  return `http://127.0.0.1:${port}${target}`;
}

interface Logged {
  status: number;
  bytes: number;
}

/** What the server has logged of GET requests for `target`. */
function logged({ lines }: Server, target: string): Logged[] {
  return lines.map((line) => line.split(" "))
    .filter(([, , method, path]) => method === "GET" && path === target)
    .map(([, , , , status, bytes]) => ({ status: Number(status), bytes: Number(bytes) }));
}

/** Waits until the server has logged a response with `status` to a GET of `target`. */
function answered(server: Server, target: string, status: number): Promise<Logged> {
  return until(
    () => logged(server, target).find((entry) => entry.status === status),
    `GET ${target} ${status} in the log:\n${server.lines.join("\n")}`,
  );
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function assertMatches(text: string, pattern: RegExp): void {
  assert(pattern.test(text), `${pattern} in ${JSON.stringify(text)}`);
}

/** That the file at `path` holds what `target` is on the site. */
function assertGot(path: string, site: Site, target: string): void {
  const [actual, expected] = [fs.readFileSync(path), site.files.get(target)!];
  assertEquals(actual.length, expected.length, `the length of ${target}`);
  assertEquals(sha256(actual), sha256(expected), target);
}

/** Adds a file that has not changed for long. */
function addOld(site: Site, name: string, content: string | Buffer): void {
  site.add(name, content);
  fs.utimesSync(site.path(name), MODIFIED, MODIFIED);
}

const RESUMERS: [string, string[]][] = [
  ["curl", ["-q", "-sS", "-O", "-C", "-"]],
  ["wget", ["--no-config", "-nv", "-c"]],
];

for (const [command, args] of RESUMERS) {
  test(
    `${command} resumes a download that was cut off, and leaves a finished one alone`,
    () =>
      serving(async (server, site) => {
        const url = urlOf(server, LARGE);
        const path = join(site.base, LARGE);
        await cutOff(site, command, [...args, "--limit-rate", "2m", url], path);
        const { size } = fs.statSync(path);
        assert(size < SIZE, "nothing is left to resume");

        await output(site.base, command, [...args, url]);
        assertGot(path, site, LARGE);
        assertEquals(await answered(server, LARGE, 206), { status: 206, bytes: SIZE - size });

        await output(site.base, command, [...args, url]);
        assertGot(path, site, LARGE);
        await answered(server, LARGE, 416);
      }),
    { skip: missing(command) },
  );
}

/** Runs a command until the first of its download is at `path`, and kills it. */
async function cutOff({ base }: Site, command: string, args: string[], path: string): Promise<void> {
  const child = start(base, command, args);
  child.stdout.resume();
  child.stderr.resume();
  const closed = new Promise((resolve) => child.once("close", resolve));
  try {
    await until(() => fs.existsSync(path) && fs.statSync(path).size >= MIB, `the first MiB at ${path}`);
  } finally {
    child.kill("SIGKILL");
    await closed;
  }
}

test("aria2c puts a file together from four connections", () =>
  serving(async (server, site) => {
    // Without a limit, the first connection could have taken all of it before the others are there.
    const args = ["--no-conf", "--no-netrc", "-q", "-x4", "-s4", "-k1M", "--max-overall-download-limit=16M"];
    await output(site.base, "aria2c", [...args, urlOf(server, LARGE)]);
    assertGot(join(site.base, LARGE), site, LARGE);
    await until(() => logged(server, LARGE).length >= 4, "four requests in the log");
    const ranges = logged(server, LARGE).filter(({ status }) => status === 206);
    assert(ranges.length >= 3, server.lines.join("\n")); // the first connection asks for the whole
  }), { skip: missing("aria2c") });

test("four curls at once fetch a quarter each", () =>
  serving(async (server, site) => {
    const quarter = SIZE / 4;
    const ranges = [0, 1, 2].map((i) => `${i * quarter}-${(i + 1) * quarter - 1}`);
    ranges.push(`-${quarter}`);
    const paths = ranges.map((_, i) => join(site.base, `part${i}`));
    const codes = await Promise.all(
      ranges.map((range, i) =>
        curl(site, "-r", range, "-o", paths[i], "-w", "%{http_code}", urlOf(server, LARGE))
      ),
    );
    assertEquals(codes, ["206", "206", "206", "206"]);
    assertSame(
      Buffer.concat(paths.map((path) => fs.readFileSync(path))),
      site.files.get(LARGE)!,
      "the parts",
    );
    await until(() => logged(server, LARGE).length === 4, "four requests in the log");
    assertEquals(logged(server, LARGE), ranges.map(() => ({ status: 206, bytes: quarter })));
  }), { skip: missing("curl") });

test("curl -z fetches a file only if it is newer than its copy", () =>
  serving(async (server, site) => {
    addOld(site, "old.bin", randomBytes(5000));
    const copy = join(site.base, "copy");
    const newer = join(site.base, "newer");
    const args = ["-z", copy, "-o", newer, "-w", "%{http_code}", urlOf(server, "/old.bin")];
    await curl(site, "-R", "-o", copy, urlOf(server, "/old.bin"));
    assertGot(copy, site, "/old.bin");
    assertEquals(fs.statSync(copy).mtime, MODIFIED);

    assertEquals(await curl(site, ...args), "304");
    assert(!fs.existsSync(newer));
    assertEquals(await answered(server, "/old.bin", 304), { status: 304, bytes: 0 });

    site.add("old.bin", randomBytes(5000));
    assertEquals(await curl(site, ...args), "200");
    assertGot(newer, site, "/old.bin");
  }), { skip: missing("curl") });

test("curl --etag-compare fetches a file only if it has changed", () =>
  serving(async (server, site) => {
    addOld(site, "old.bin", randomBytes(MIB + 1));
    const etag = join(site.base, "etag");
    const path = join(site.base, "copy");
    const common = ["-o", path, "-w", "%{http_code}", urlOf(server, "/old.bin")];
    assertEquals(await curl(site, "--etag-save", etag, ...common), "200");
    assertGot(path, site, "/old.bin");
    assertMatches(fs.readFileSync(etag, "utf8"), /^(W\/)?"[^"]+"\s*$/);

    assertEquals(await curl(site, "--etag-compare", etag, ...common), "304");
    assertEquals(await answered(server, "/old.bin", 304), { status: 304, bytes: 0 });
    assertGot(path, site, "/old.bin");

    site.add("old.bin", randomBytes(MIB + 1)); // the same length
    assertEquals(await curl(site, "--etag-compare", etag, ...common), "200");
    assertGot(path, site, "/old.bin");
  }), { skip: missing("curl") });

/** An encoding's name in HTTP, its extension, curl's name of it, and how it is made. */
type Encoding = [string, string, string, (content: Buffer) => Buffer];

const ENCODINGS: Encoding[] = [
  ["gzip", ".gz", "libz", gzipSync],
  ["br", ".br", "brotli", brotliCompressSync],
  ["zstd", ".zst", "zstd", (input) => spawnSync("zstd", ["-q", "-c"], { input, maxBuffer: MIB }).stdout],
];

const SCRIPT = "export const much = 'of the same';\n".repeat(40_000);

for (const [encoding, extension, feature, compress] of ENCODINGS) {
  test(
    `curl --compressed gets the ${extension} sibling, and decodes it to the original`,
    () =>
      serving(async (server, site) => {
        addOld(site, "script.js", SCRIPT);
        addOld(site, `script.js${extension}`, compress(Buffer.from(SCRIPT)));
        addOld(site, "alone.js", SCRIPT);
        for (const [target, expected] of [["/script.js", encoding], ["/alone.js", undefined]] as const) {
          const headers = await fetched(site, server, target, "--compressed");
          assertEquals(headers["content-encoding"], expected, target);
          assertStringIncludes(headers.vary?.toLowerCase() ?? "no Vary", "accept-encoding");
          assertStringIncludes(headers["content-type"], "text/javascript");
        }
        const { length } = site.files.get(`/script.js${extension}`)!;
        assertEquals(await answered(server, "/script.js", 200), { status: 200, bytes: length });
        assertEquals((await fetched(site, server, "/script.js"))["content-encoding"], undefined);
      }, { args: ["--precompressed"] }),
    {
      skip: curlWithout(feature) ?? (encoding === "zstd" ? missing("zstd") : undefined),
    },
  );
}

/** Why a test that needs this feature of curl is skipped. */
function curlWithout(feature: string): string | undefined {
  const { stdout, error } = spawnSync("curl", ["--version"], { encoding: "utf8" });
  if (error) return "no curl";
  return new RegExp(`^Features:.*\\b${feature}\\b`, "m").test(stdout) ? undefined : `curl without ${feature}`;
}

/** Fetches `target` by curl, which must give what the site has; the headers of the response. */
async function fetched(
  site: Site,
  server: Server,
  target: string,
  ...args: string[]
): Promise<Record<string, string>> {
  const [head, path] = [join(site.base, "head"), join(site.base, "body")];
  await curl(site, "-D", head, "-o", path, ...args, urlOf(server, target));
  assertGot(path, site, target);
  const lines = fs.readFileSync(head, "latin1").trim().split("\r\n").slice(1);
  return Object.fromEntries(lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
}

/** Runs headless chromium, with a fresh profile. */
function chromium({ base }: Site, ...args: string[]): Promise<string> {
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
  flags.push(
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
  );
  flags.push("--autoplay-policy=no-user-gesture-required", "--no-proxy-server", "--timeout=30000");
  flags.push(`--user-data-dir=${fs.mkdtempSync(join(base, "profile-"))}`);
  return output(base, "chromium", [...flags, ...args]);
}

/** A server that answers nothing before somebody has asked for its `/done`. */
async function withGate<T>(body: (origin: string) => Promise<T>): Promise<T> {
  const held: ServerResponse[] = [];
  let open = false;
  const gate = createServer(({ url }, response) => {
    held.push(response);
    open ||= url === "/done";
    if (open) { for (const response of held.splice(0)) response.end(); }
  });
  gate.listen(0, "127.0.0.1");
  await new Promise((resolve) => gate.once("listening", resolve));
  try {
    return await body(`http://127.0.0.1:${(gate.address() as AddressInfo).port}`);
  } finally {
    gate.closeAllConnections();
    gate.close();
  }
}

/**
 * What `script`, the body of an async function in a page of the site, returns in headless chromium.
 * --dump-dom waits for the page's load event, and that for the gate.
 */
function inChromium(server: Server, site: Site, script: string): Promise<string> {
  return withGate(async (gate) => {
    site.add(
      "page/index.html",
      `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<p>not yet</p><script async src="${gate}/held"></script>
<script>
  (async () => {${script}})().catch((error) => "failed: " + error).then((text) => {
    document.querySelector("p").textContent = text;
    return fetch("${gate}/done", { mode: "no-cors" });
  });
</script>`,
    );
    const dom = await chromium(site, "--dump-dom", urlOf(server, "/page/"));
    return unescaped(/<p>(.*?)<\/p>/s.exec(dom)?.[1] ?? `no paragraph in ${dom}`);
  });
}

/** Text from the serialized DOM. */
function unescaped(html: string): string {
  const characters: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', nbsp: "\u{a0}" };
  return html.replace(/&(amp|lt|gt|quot|nbsp);/g, (_, name) => characters[name]);
}

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
      // To seek, it asks again: its first request was from the start on.
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

/** Names that a listing could get wrong, as HTML or as a URL. */
const ODD = [
  `<b>&"'.txt`,
  "%41.txt",
  "ü ñ.txt",
  "#?.txt",
  "&lt;.txt",
  "javascript:alert(1).txt",
  '" onmouseover="alert(1)" x=".txt',
  "+ ;=@$,!*().txt",
  "日本🎉.txt",
];

/** Adds what is to be listed, all of it old. */
function addTree(site: Site): void {
  for (const name of ["file10.txt", "file2.txt", "dir10/x.txt", "dir2/x.txt", "a & b/ü.txt", ...ODD]) {
    addOld(site, `tree/${name}`, randomBytes(100));
  }
  addOld(site, "tree/kib.bin", randomBytes(1536));
  addOld(site, "tree/large.bin", randomBytes(3 * MIB));
  fs.mkdirSync(site.path("tree/empty"));
  for (const name of ["dir10", "dir2", "a & b", "empty"]) {
    fs.utimesSync(site.path(`tree/${name}`), MODIFIED, MODIFIED);
  }
}

/** The names in that directory. */
function treeNames(site: Site): string[] {
  return fs.readdirSync(site.path("tree"));
}

/** A link of a listing. */
interface Row {
  href: string;
  text: string;
  /** The text of the whole row. */
  row: string;
}

/** The links in the body of the table of a serialized DOM. */
function rows(dom: string): Row[] {
  const text = (html: string) => unescaped(html.replace(/<[^>]*>/g, " ")).replace(/\s+/g, " ").trim();
  return [...dom.replace(/<thead>.*?<\/thead>/s, "").matchAll(/<tr\b.*?<\/tr>/gs)].flatMap(([row]) => {
    const [, href, content] = /<a\b[^>]*?\shref="([^"]*)"(?:"[^"]*"|[^">])*>(.*?)<\/a>/s.exec(row) ?? [];
    return href === undefined ? [] : [{ href: unescaped(href), text: text(content), row: text(row) }];
  });
}

test(
  "chromium shows a listing: directories first, in natural order, with sizes and dates",
  () =>
    serving(async (server, site) => {
      addTree(site);
      const [parent, ...entries] = rows(await chromium(site, "--dump-dom", urlOf(server, "/tree/")));
      assertEquals(new URL(parent.href, urlOf(server, "/tree/")).pathname, "/");
      const names = entries.map(({ text }) => text.replace(/\/$/, ""));
      assertEquals(names.toSorted(), treeNames(site).toSorted());
      const isDirectory = (name: string) => fs.statSync(site.path(`tree/${name}`)).isDirectory();
      assertEquals(names.slice(0, 4).map(isDirectory), [true, true, true, true]);
      for (const [first, second] of [["dir2", "dir10"], ["file2.txt", "file10.txt"]]) {
        assert(names.indexOf(first) < names.indexOf(second), `${first} before ${second}`);
      }
      for (const { row } of entries) assertMatches(row, /2021-03-04/);
      const row = (name: string) => entries[names.indexOf(name)].row;
      assertMatches(row("kib.bin"), /1\.5 ?(K|KB|kB|KiB)\b|1,?536/);
      assertMatches(row("large.bin"), /3(\.0)? ?(M|MB|MiB)\b|3,?145,?728/);
      assertMatches(row("file2.txt"), /\b100\b/);
    }),
  { skip: missing("chromium") },
);

test(
  "chromium shows odd names in a listing as they are, and their links lead to the files",
  () =>
    serving(async (server, site) => {
      addTree(site);
      const base = urlOf(server, "/tree/");
      const dom = await chromium(site, "--dump-dom", base);
      assertEquals(/<b>|onmouseover="/.exec(dom.replace(/="[^"]*"/g, "")), null, "markup from a name");
      const entries = rows(dom);
      for (const name of ODD) {
        const entry = entries.find(({ text }) => text === name.replace(/\s+/g, " "));
        assert(entry, `${name} among\n${entries.map(({ text }) => text).join("\n")}`);
        const { origin, pathname, search } = new URL(entry.href, base);
        assertEquals(origin, new URL(base).origin, entry.href);
        const { status, body } = await ask(server.port, pathname + search);
        assertEquals(status, 200, entry.href);
        assertSame(body, site.files.get(`/tree/${name}`)!, name);
      }
    }),
  { skip: missing("chromium") },
);

test("chromium paints a listing", () =>
  serving(async (server, site) => {
    addTree(site);
    const path = join(site.base, "listing.png");
    await chromium(site, `--screenshot=${path}`, "--window-size=1000,800", urlOf(server, "/tree/"));
    const { width, height, colors } = decodePng(fs.readFileSync(path));
    assertEquals([width, height], [1000, 800]);
    assert(colors.size >= 16, `only ${colors.size} colors`); // the edges of letters are smooth
    const [most] = [...colors.values()].toSorted((a, b) => b - a);
    assert(most < 0.995 * width * height, "hardly anything but background");
  }), { skip: missing("chromium") });

interface Image {
  width: number;
  height: number;
  /** How often each color occurs. */
  colors: Map<number, number>;
}

/** A PNG of 8-bit RGB or RGBA, not interlaced. */
function decodePng(png: Buffer): Image {
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

test("curl gets a listing as JSON, sorted in the same way", () =>
  serving(async (server, site) => {
    addTree(site);
    const text = await curl(site, "-H", "Accept: application/json", urlOf(server, "/tree/"));
    const { path, entries } = JSON.parse(text) as { path: string; entries: Record<string, unknown>[] };
    assertEquals(path, "/tree/");
    const names = entries.map(({ name }) => name as string);
    assertEquals(names.toSorted(), treeNames(site).toSorted());
    assertEquals(entries.slice(0, 5).map(({ type }) => type), [...Array(4).fill("directory"), "file"]);
    assert(names.indexOf("dir2") < names.indexOf("dir10"));
    assert(names.indexOf("file2.txt") < names.indexOf("file10.txt"));
    for (const { name, type, size, modified } of entries) {
      if (type === "file") assertEquals(size, fs.statSync(site.path(`tree/${name}`)).size, `${name}`);
      assertEquals(new Date(modified as string), MODIFIED, `${name}`);
    }
  }), { skip: missing("curl") });

test(
  "wget -r mirrors a tree through its listings, and nothing above it",
  () =>
    serving(async (server, site) => {
      addTree(site);
      addOld(site, "tree/dir2/deep/er/x.bin", randomBytes(65537));
      const mirror = join(site.base, "mirror");
      const args = ["--no-config", "-nv", "-r", "-np", "-nH", "--restrict-file-names=nocontrol"];
      args.push("-P", mirror);
      await output(site.base, "wget", [...args, urlOf(server, "/tree/")]);
      const listings = ["", "dir2/", "dir2/deep/", "dir2/deep/er/", "dir10/", "a & b/", "empty/"];
      const expected = listings.map((name) => `tree/${name}index.html`);
      for (const target of site.files.keys()) {
        if (!target.startsWith("/tree/")) continue;
        const name = target.slice(1).replace("%41", "A"); // wget decodes twice for its file
        assertGot(join(mirror, name), site, target);
        expected.push(name);
      }
      const found = fs.readdirSync(mirror, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => join(parentPath, name).slice(mirror.length + 1));
      assertEquals(found.filter((name) => !/index\.html\?/.test(name)).toSorted(), expected.toSorted());
    }),
  { skip: missing("wget") },
);

/** The packages, and the size of what is in each. */
const PACKAGES: [string, number][] = [["p1", 10], ["p2", 2 * MIB], ["p3", 70_000], ["p4", 0]];

const NAMES = PACKAGES.map(([name]) => name);
const DEBS = NAMES.map(debOf);

function debOf(name: string): string {
  return `${name}_1.0_all.deb`;
}

/** How a Debian repository is laid out. */
interface Layout {
  /** As sources.list names it. */
  suite: string;
  release: string;
  index: string;
}

const LAYOUTS: Record<string, Layout> = {
  flat: { suite: "./", release: "debian", index: "debian" },
  pool: {
    suite: "stable main",
    release: "debian/dists/stable",
    index: "debian/dists/stable/main/binary-amd64",
  },
};

/** Builds a repository in `debian` of the site. */
async function addRepository(site: Site, { release, index }: Layout): Promise<void> {
  for (const [name, size] of PACKAGES) await addPackage(site, name, size);
  const packages = await output(site.path("debian"), "apt-ftparchive", ["packages", "pool"]);
  addOld(site, `${index}/Packages`, packages);
  addOld(site, `${index}/Packages.gz`, gzipSync(packages));
  addOld(site, `${release}/Release`, await output(site.path(release), "apt-ftparchive", ["release", "."]));
}

async function addPackage(site: Site, name: string, size: number): Promise<void> {
  const tree = join(site.base, name);
  fs.mkdirSync(join(tree, "DEBIAN"), { recursive: true, mode: 0o755 });
  const fields = [`Package: ${name}`, "Version: 1.0", "Architecture: all", "Maintainer: x <x@example.org>"];
  fs.writeFileSync(join(tree, "DEBIAN/control"), [...fields, `Description: ${name}`, ""].join("\n"));
  fs.writeFileSync(join(tree, "data"), randomBytes(size));
  const deb = debOf(name);
  await output(site.base, "dpkg-deb", ["-Znone", "--root-owner-group", "-b", tree, deb]);
  addOld(site, `debian/pool/${deb}`, fs.readFileSync(join(site.base, deb)));
}

/** Runs apt-get, away from this system's configuration and state, and gives what it writes. */
function aptOf(site: Site, server: Server, { suite }: Layout): (...args: string[]) => Promise<string> {
  const directory = join(site.base, "apt");
  for (const name of ["lists/partial", "cache/archives/partial", "log"]) {
    fs.mkdirSync(join(directory, name), { recursive: true });
  }
  fs.writeFileSync(join(directory, "status"), "");
  fs.writeFileSync(
    join(directory, "sources.list"),
    `deb [trusted=yes] ${urlOf(server, "/debian")} ${suite}\n`,
  );
  const options = {
    "APT::Sandbox::User": "root",
    "APT::Architecture": "amd64",
    "Acquire::Languages": "none",
    "Acquire::Retries": "0",
    "Acquire::http::Pipeline-Depth": "10",
    "Acquire::http::Proxy": "false",
    "Debug::NoLocking": "true",
    "Dir::Cache": join(directory, "cache"),
    "Dir::Etc::main": "/dev/null",
    "Dir::Etc::parts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "Dir::Etc::sourcelist": join(directory, "sources.list"),
    "Dir::Etc::sourceparts": "-",
    "Dir::Log": join(directory, "log"),
    "Dir::State": directory,
    "Dir::State::lists": join(directory, "lists"),
    "Dir::State::status": join(directory, "status"),
  };
  const lines = Object.entries(options).map(([key, value]) => `${key} "${value}";\n`);
  const config = join(directory, "apt.conf");
  fs.writeFileSync(config, lines.join(""));
  return async (...args) => {
    const { stdout, stderr, code } = await run(directory, "apt-get", ["-q", "-y", ...args], {
      APT_CONFIG: config,
    });
    assertEquals(code, 0, `apt-get ${args.join(" ")}: exit code ${code}\n${stderr}${stdout}`);
    return `${stdout}${stderr}`;
  };
}

/** That `directory` holds all packages, as the site has them. */
function assertPackages(directory: string, site: Site): void {
  for (const deb of DEBS) assertGot(join(directory, deb), site, `/debian/pool/${deb}`);
}

/** The requests of the log, in order: the last names of their paths, and the statuses. */
function requests({ lines }: Server): string[] {
  return lines.flatMap((line) => {
    const [, name, status] = / GET \S*\/(\S+) (\d+)/.exec(line) ?? [];
    return name === undefined ? [] : [`${name} ${status}`];
  });
}

/** That `body` leads to these requests. */
async function assertRequests(
  server: Server,
  expected: string[],
  body: () => Promise<unknown>,
): Promise<void> {
  const before = requests(server).length;
  await body();
  await until(() => requests(server).length >= before + expected.length, `${expected.length} more requests`);
  assertEquals(requests(server).slice(before), expected);
}

const noApt = lacking("apt-get", "apt-ftparchive", "dpkg-deb");

for (const [kind, layout] of Object.entries(LAYOUTS)) {
  test(
    `apt-get updates from a ${kind} repository, and downloads its packages, pipelined`,
    () =>
      serving(async (server, site) => {
        await addRepository(site, layout);
        const apt = aptOf(site, server, layout);
        const first = ["InRelease 404", "Release 200", "Release.gpg 404", "Packages.gz 200"];
        await assertRequests(server, first, () => apt("update"));
        await assertRequests(server, ["InRelease 404", "Release 304", "Release.gpg 404"], async () => {
          assertMatches(await apt("update"), /^Hit:\d+ .* Release$/m);
        });
        await assertRequests(server, DEBS.map((deb) => `${deb} 200`), async () => {
          const text = await apt("-o", "Debug::Acquire::http=true", "download", ...NAMES);
          const order = [...text.matchAll(/^(GET|Answer) /gm)].map(([, what]) => what);
          assertMatches(order.join(" "), /GET GET/);
        });
        assertPackages(join(site.base, "apt"), site);
      }),
    { skip: noApt },
  );
}

test("apt-get resumes a package of which it has a part", () =>
  serving(async (server, site) => {
    await addRepository(site, LAYOUTS.pool);
    const apt = aptOf(site, server, LAYOUTS.pool);
    await apt("update");
    const archives = join(site.base, "apt/cache/archives");
    const part = join(archives, "partial", DEBS[1]);
    const target = `/debian/pool/${DEBS[1]}`;
    const content = site.files.get(target)!;
    fs.writeFileSync(part, content.subarray(0, MIB));
    fs.utimesSync(part, MODIFIED, MODIFIED);
    await apt("install", "--download-only", ...NAMES);
    assertPackages(archives, site);
    assertEquals(await answered(server, target, 206), { status: 206, bytes: content.length - MIB });
  }), { skip: noApt });

test(
  "curl gets the right bytes of many files on one connection",
  () =>
    serving(async ({ port }, { base, files }) => {
      const urls = [...files.keys()].flatMap((target) => [`http://127.0.0.1:${port}${target}`, "-o", "-"]);
      const { stdout, code } = await run(base, "curl", ["-sSf", ...urls]);
      assertEquals(code, 0);
      assertEquals(sha256(stdout), sha256(Buffer.concat([...files.values()])));
    }),
  { skip: missing("curl") },
);

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
