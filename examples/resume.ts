// A download that goes on where it broke off, also in a later run: deno run -A (or bun) examples/resume.ts URL FILE [SECONDS]
//
// For any server with strong ETags, as all of this package are: with If-Range it sends the rest only of the same
// version of the file, and otherwise the whole. A connection that brings nothing for SECONDS (30) is given up.
import * as fs from "node:fs/promises";
import process from "node:process";

/** Attempts in a row that bring no byte, after which it gives up. */
const ATTEMPTS = 5;
/** Milliseconds before the attempt after one that brought no byte; then twice as long each time. */
const PAUSE = 200;

const [url, file, seconds = "30"] = process.argv.slice(2);
/** What has come so far, and of which version of the file it is. */
const part = `${file}.part`;
const versionFile = `${file}.part.json`;

interface Version {
  readonly etag: string | null;
  readonly size: number;
}

async function readVersion(): Promise<Version | undefined> {
  try {
    return JSON.parse(await fs.readFile(versionFile, "utf8"));
  } catch {
    return undefined; // nothing has come, or a run was killed while it wrote this
  }
}

async function sizeOfPart(): Promise<number> {
  try {
    return (await fs.stat(part)).size;
  } catch {
    return 0;
  }
}

/** The response is no use, and would be none if we asked again. */
class Refused extends Error {}

/** Asks for what is missing and appends it to the part. `onBytes`: called when something has come. */
async function fetchRest(signal: AbortSignal, onBytes: () => void): Promise<void> {
  let version = await readVersion();
  const size = await sizeOfPart();
  const start = version?.etag && size <= version.size ? size : 0;
  if (version && start > 0 && start === version.size) return;
  // As it is: a part of one compressed response does not continue another.
  const headers: Record<string, string> = { "Accept-Encoding": "identity" };
  if (version?.etag && start > 0) {
    Object.assign(headers, { Range: `bytes=${start}-`, "If-Range": version.etag });
  }
  const response = await fetch(url, { headers, signal });
  const etag = response.headers.get("ETag");
  if (response.status === 206) {
    const [, first, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "") ??
      [];
    if (etag !== version?.etag || Number(first) !== start || Number(total) !== version.size) {
      await response.body?.cancel();
      await fs.rm(versionFile);
      throw new Error("the server sent another part than the one that is missing");
    }
    console.log(`resumed at byte ${start} of ${total}`);
  } else if (response.status === 200) {
    const length = response.headers.get("Content-Length");
    version = { etag: etag?.startsWith("W/") ? null : etag, size: Number(length ?? NaN) };
    if (length === null) throw new Refused("the server does not say how long the file is");
    // First the part, then what it is a part of: killed in between, nothing old can pass for new.
    await fs.writeFile(part, "");
    await fs.writeFile(versionFile, JSON.stringify(version));
    console.log(`started at byte 0 of ${length}`);
  } else {
    await response.body?.cancel();
    const text = `the server answered ${response.status}`;
    throw response.status < 500 && response.status !== 429 ? new Refused(text) : new Error(text);
  }
  const output = await fs.open(part, "a");
  try {
    for await (const chunk of response.body ?? []) {
      onBytes();
      await output.appendFile(chunk);
    }
  } finally {
    await output.close();
  }
}

/** Whether all has come. */
async function isWhole(): Promise<boolean> {
  const version = await readVersion();
  return version !== undefined && await sizeOfPart() === version.size;
}

/** Runs `work`, and aborts it once it has told of no bytes for so many seconds. */
async function whileBytesCome(work: typeof fetchRest): Promise<void> {
  const stalled = new AbortController();
  const start = () =>
    setTimeout(() => stalled.abort(new Error(`nothing came for ${seconds} s`)), Number(seconds) * 1000);
  let timer = start();
  try {
    await work(stalled.signal, () => {
      clearTimeout(timer);
      timer = start();
    });
  } finally {
    clearTimeout(timer);
  }
}

async function download(): Promise<void> {
  for (let failures = 0; failures < ATTEMPTS;) {
    const before = await sizeOfPart();
    try {
      if (failures > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE * 2 ** (failures - 1)));
      await whileBytesCome(fetchRest);
    } catch (error) {
      if (error instanceof Refused) throw error;
      console.error((error as Error).message);
    }
    if (await isWhole()) {
      await fs.rename(part, file);
      await fs.rm(versionFile);
      return console.log(`${file} is whole`);
    }
    failures = await sizeOfPart() > before ? 0 : failures + 1;
  }
  throw new Error(`gave up: the next run goes on at byte ${await sizeOfPart()}`);
}

try {
  await download();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
