/**
 * `deno task bench:cold`: how long a request for a small file in memory waits while four cold files are downloaded
 * from a slow disk, and how fast those downloads are. Run as root; needs the block I/O controller of cgroups.
 *
 *   --seconds 5          length of one run
 *   --rate 20M           bytes a second that the disk gives, to all four together
 *   --only NAME[,NAME]   these servers
 *
 * "raw-c" is plain sendfile(2) in C (server.c): its throughput is the most that the disk can give.
 */
import { parseArgs } from "node:util";
import { forget, SlowDisk, whyNoSlowDisk } from "../tests/support/slow_disk.ts";
import * as harness from "./harness.ts";
import { openLink } from "./link.ts";
import { cpuSeconds, processes } from "./measure.ts";
import { median, MIB, parseSize, positive, printRow, sum } from "./numbers.ts";
import { start } from "./servers.ts";

const DOWNLOADS = 4;

/** Milliseconds between two requests for the small file. */
const PAUSE = 10;

/** For each name, the command that serves a directory and prints its port. */
const SERVERS: Record<string, (dir: string, programs: string, files: string[]) => string[]> = {
  "raw-c": (_, programs, files) => [`${programs}/server`, ...files],
  "static-deno": (dir) => deno("../cli.ts", dir, "--log", "none", "--host", "127.0.0.1", "-p", "0"),
  "static-bun": (dir) => bun("../cli.ts", dir, "--log", "none", "--host", "127.0.0.1", "-p", "0"),
  "with-deno": (dir) => deno("http_servefile.ts", dir, String(2 * MIB)),
  "stream-deno": (dir) => deno("http_deno_stream.ts", dir),
  "serve-bun": (dir) => bun("http_servefile.ts", dir),
  "node-deno": (dir) => deno("http_sendfile.ts", dir),
  "node-bun": (dir) => bun("http_sendfile.ts", dir),
};

function deno(script: string, ...args: string[]): string[] {
  return [
    Deno.execPath(),
    "run",
    "-A",
    "--no-check",
    "--node-modules-dir=none",
    harness.local(script),
    ...args,
  ];
}

function bun(script: string, ...args: string[]): string[] {
  return [harness.bun(), harness.local(script), ...args];
}

/** Reads one response to its end or the end of the connection; returns its bytes including the head. */
async function get(port: number, name: string, stop?: AbortSignal): Promise<number> {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const end = () => conn.close();
  stop?.addEventListener("abort", end);
  const buffer = new Uint8Array(MIB);
  let received = 0;
  try {
    await conn.write(
      new TextEncoder().encode(`GET /${name} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n`),
    );
    let total = Infinity;
    while (received < total) {
      const read = await conn.read(buffer);
      if (read === null) throw new Error(`the response ended after ${received} bytes`);
      if (received === 0) total = lengthOf(new TextDecoder("latin1").decode(buffer.subarray(0, read)));
      received += read;
    }
  } catch (error) {
    if (!stop?.aborted) throw error;
  } finally {
    stop?.removeEventListener("abort", end);
    if (!stop?.aborted) conn.close();
  }
  return received;
}

function lengthOf(head: string): number {
  const length = /^content-length: *(\d+)\r$/im.exec(head)?.[1];
  if (!head.startsWith("HTTP/1.1 200 ") || length === undefined) throw new Error(`not a file: ${head}`);
  return head.indexOf("\r\n\r\n") + 4 + Number(length);
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    seconds: { type: "string", default: "5" },
    rate: { type: "string", default: "20M" },
    only: { type: "string" },
  },
});
const seconds = positive("seconds", values.seconds);
const bytesPerSecond = parseSize(values.rate);
const wanted = values.only?.split(",") ?? Object.keys(SERVERS);
for (const name of wanted) if (!(name in SERVERS)) throw new TypeError(`no server is called ${name}`);

await harness.runBenchmark("cold", async (place) => {
  const why = whyNoSlowDisk();
  if (why !== undefined) throw new Error(why);
  const link = (await openLink("loopback"))!;
  await harness.compile(place, "server");
  const disk = new SlowDisk(bytesPerSecond);
  try {
    // More than can be downloaded in the time of a run, so that no download ends before it.
    const body = new Uint8Array(Math.ceil(bytesPerSecond * seconds / MIB) * MIB);
    for (let at = 0; at < body.length; at += 65536) crypto.getRandomValues(body.subarray(at, at + 65536));
    const large = Array.from({ length: DOWNLOADS }, (_, i) => disk.add(`${i}.bin`, body));
    const small = disk.add("small.txt", body.subarray(0, 1000));
    console.log(`${DOWNLOADS} downloads of cold files from a disk of ${values.rate}B/s, ${seconds} s each`);
    printRow(["server", "median ms", "p99 ms", "max ms", "requests", "MB/s", "CPU s"]);
    for (const name of wanted) {
      const command = SERVERS[name](disk.dir, place.programs, [...large, small]);
      const server = await start(name, { place, link, pad: "", signal: harness.signal }, command);
      try {
        for (let i = 0; i < 20; i++) await get(server.port, "small.txt"); // warm: code and file
        large.forEach(forget);
        processes(server).forEach((pid) => disk.slowDown(pid));
        const before = cpuSeconds(server);
        const stop = new AbortController();
        const began = performance.now();
        const downloads = large.map((_, i) => get(server.port, `${i}.bin`, stop.signal));
        const times: number[] = [];
        while (performance.now() - began < seconds * 1000) {
          const asked = performance.now();
          await get(server.port, "small.txt");
          times.push(performance.now() - asked);
          await new Promise((resolve) => setTimeout(resolve, PAUSE));
        }
        stop.abort();
        const received = sum(await Promise.all(downloads));
        const took = (performance.now() - began) / 1000;
        const after = cpuSeconds(server);
        times.sort((a, b) => a - b);
        printRow([
          name,
          median(times).toFixed(2),
          times[Math.floor(times.length * 0.99)].toFixed(1),
          times.at(-1)!.toFixed(1),
          String(times.length),
          (received / took / 1e6).toFixed(1),
          (after.user + after.system - before.user - before.system).toFixed(2),
        ]);
      } finally {
        await server.end(); // no process may be left in the cgroup
      }
    }
  } finally {
    disk[Symbol.dispose]();
  }
}, { isolate: false });
