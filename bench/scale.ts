/**
 * `deno task scale`: the cost of thousands of slow downloads for a server, and how long a small request waits
 * meanwhile. Needs Linux, a C compiler, and nginx for the comparison with it.
 *
 *   --connections 9500   at once; by default as many as the limit of descriptors allows, at two each
 *   --seconds 60         for which the downloads are held
 *   --rate 1024          bytes per second that each download reads
 *   --only NAME[,NAME]   these servers
 *
 * The servers run one after the other: each first without connections, then with all of them (hold.c compares every
 * byte), then with none again, and once more with all for some seconds: a runtime keeps the memory that its heap has
 * grown by, and must not need more the second time. Fails if a download ends, has a wrong byte or stalls, if
 * descriptors stay open, or if memory grows.
 */
import { parseArgs } from "node:util";
import { fromFileUrl } from "@std/path";
import { findBun } from "../tests/support/find_bun.ts";
import { median, MIB, positive } from "./numbers.ts";

const local = (name: string) => fromFileUrl(new URL(name, import.meta.url));

/** Bytes of the downloaded file: more than all buffers of a connection hold. */
const LARGE = 64 * MIB;
const SMALL = 4096;

/** Milliseconds between two small requests. */
const PAUSE = 50;

/** Milliseconds in which a server must release its descriptors after the downloads. */
const SETTLE = 20_000;

/** Seconds for which all downloads are held the second time. */
const AGAIN = 5;

/** Bytes per connection by which memory may grow the second time. */
const NOISE = 32 * 1024;

/** Clock ticks a second in /proc (USER_HZ). */
const TICKS = 100;

interface Running {
  readonly port: number;
  /** The process that holds the connections. */
  readonly pid: number;
  end(): Promise<void>;
}

type Start = (dir: string) => Promise<Running>;

const deno = (script: string, ...args: string[]) =>
  started([Deno.execPath(), "run", "-A", "--no-check", "--node-modules-dir=none", local(script), ...args]);
const bun = (script: string, ...args: string[]) => started([findBun(), local(script), ...args]);
const site = (dir: string) => ["../cli.ts", dir, "--log", "none", "--host", "127.0.0.1", "-p", "0"] as const;

const SERVERS: Record<string, Start> = {
  "static-deno": (dir) => deno(...site(dir)),
  "static-bun": (dir) => bun(...site(dir)),
  "nginx": startNginx,
  "stream-deno": (dir) => deno("http_deno_stream.ts", dir),
};

/** A server that prints its port. */
async function started([program, ...args]: string[]): Promise<Running> {
  const child = new Deno.Command(program, { args, stdout: "piped", stderr: "inherit" }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await lines.read();
    if (done) throw new Error(`no server: ${program} ${args.join(" ")}`);
    text += value;
    const port = /^(?:.*http:\/\/[\d.]+:)?(\d+)\/?$/m.exec(text)?.[1];
    if (port === undefined) continue;
    (async () => {
      while (!(await lines.read()).done);
    })();
    return { port: Number(port), pid: child.pid, end: () => ended(child) };
  }
}

async function ended(child: Deno.ChildProcess): Promise<void> {
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
  await child.status;
  clearTimeout(timer);
}

async function startNginx(dir: string): Promise<Running> {
  const own = Deno.makeTempDirSync({ prefix: "scale-nginx-" });
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  const config = `
    ${Deno.uid() === 0 ? "user root;" : ""}
    daemon off;
    worker_processes 1;
    pid ${own}/nginx.pid;
    error_log ${own}/error.log;
    events { worker_connections 100000; }
    http {
      access_log off;
      sendfile on;
      tcp_nopush on;
      ${
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((n) => `${n}_temp_path ${own}/${n};`).join(" ")
  }
      server { listen 127.0.0.1:${port} backlog=4096; root ${dir}; }
    }`;
  Deno.writeTextFileSync(`${own}/nginx.conf`, config);
  const args = ["-p", own, "-e", `${own}/error.log`, "-c", `${own}/nginx.conf`];
  const child = new Deno.Command("nginx", { args, stdout: "null", stderr: "inherit" }).spawn();
  for (let tries = 0; tries < 200; tries++) {
    const path = `/proc/${child.pid}/task/${child.pid}/children`;
    const [worker] = Deno.readTextFileSync(path).trim().split(" ");
    if (worker && await smallRequest(port).then(() => true, () => false)) {
      return {
        port,
        pid: Number(worker),
        async end() {
          await ended(child);
          Deno.removeSync(own, { recursive: true });
        },
      };
    }
    await sleep(50);
  }
  throw new Error("nginx does not listen");
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Milliseconds for a request of a small file on its own connection. */
async function smallRequest(port: number): Promise<number> {
  const began = performance.now();
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(
    new TextEncoder().encode("GET /small.bin HTTP/1.1\r\nHost: scale\r\nConnection: close\r\n\r\n"),
  );
  const buffer = new Uint8Array(64 * 1024);
  let received = 0;
  for (let read; (read = await conn.read(buffer.subarray(received))) !== null;) received += read;
  const text = new TextDecoder("latin1").decode(buffer.subarray(0, received));
  const body = received - text.indexOf("\r\n\r\n") - 4;
  if (!text.startsWith("HTTP/1.1 200 ") || body !== SMALL) {
    throw new Error(`not the small file: ${text.slice(0, 100)}`);
  }
  return performance.now() - began;
}

/** The resources of a process. */
interface Seen {
  /** CPU seconds. */
  readonly user: number;
  readonly system: number;
  /** Bytes. */
  readonly memory: number;
  readonly descriptors: number;
}

function look(pid: number): Seen {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return {
    user: Number(fields[11]) / TICKS,
    system: Number(fields[12]) / TICKS,
    memory: Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)![1]) * 1024,
    descriptors: [...Deno.readDirSync(`/proc/${pid}/fd`)].length,
  };
}

/** The output of hold.c. */
interface Held {
  readonly connections: number;
  readonly ended: number;
  readonly wrong: number;
  readonly least: number;
  readonly bytes: number;
}

interface Load {
  readonly dir: string;
  readonly hold: string;
  readonly connections: number;
  readonly seconds: number;
  readonly rate: number;
}

interface Result {
  readonly name: string;
  readonly held: Held;
  /** Shares of a core while all downloads were held. */
  readonly user: number;
  readonly system: number;
  /** Bytes for each connection. */
  readonly memory: number;
  readonly descriptors: number;
  /** Milliseconds for a small request, without downloads and with all of them. */
  readonly idle: number;
  readonly small: number;
  readonly slowest: number;
  /** Descriptors that stayed open. */
  readonly keptDescriptors: number;
  /** Bytes per connection by which memory grew the second time. */
  readonly grown: number;
}

async function timed(port: number, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    times.push(await smallRequest(port));
    await sleep(PAUSE);
  }
  return times;
}

/** The server did not take all of the downloads. */
class RefusedError extends Error {}

/** Downloads under way. */
class Downloads {
  readonly #client: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;

  private constructor(client: Deno.ChildProcess) {
    this.#client = client;
    this.#lines = client.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Starts the downloads; resolves when all have begun. */
  static async of(port: number, { dir, hold, connections, rate }: Load, seconds: number): Promise<Downloads> {
    const args = [port, "/large.bin", `${dir}/large.bin`, connections, rate, seconds].map(String);
    const client = new Deno.Command(hold, { args, stdin: "piped", stdout: "piped", stderr: "inherit" })
      .spawn();
    const downloads = new Downloads(client);
    if (await downloads.#line() !== "open\n") throw new RefusedError("not all downloads could be opened");
    return downloads;
  }

  async #line(): Promise<string | undefined> {
    return (await this.#lines.read()).value;
  }

  /** The state of the downloads after their time; they are still open. */
  async held(): Promise<Held> {
    return JSON.parse((await this.#line())!);
  }

  async leave(): Promise<void> {
    await this.#client.stdin.close();
    await this.#client.status;
  }
}

/** Waits until the process has no more descriptors than `before`, for some seconds at most. */
async function settled(pid: number, before: Seen): Promise<Seen> {
  for (const began = performance.now(); performance.now() - began < SETTLE; await sleep(100)) {
    if (look(pid).descriptors <= before.descriptors) break;
  }
  return look(pid);
}

async function measure(name: string, load: Load): Promise<Result> {
  const { dir, connections, seconds } = load;
  const server = await SERVERS[name](dir);
  const { port, pid } = server;
  try {
    const idle = median(await timed(port, 60));
    const before = look(pid);
    const downloads = await Downloads.of(port, load, seconds);
    await sleep(1000);
    const began = performance.now();
    const first = look(pid);
    const times: number[] = [];
    while (performance.now() - began < (seconds - 3) * 1000) times.push(...await timed(port, 1));
    const last = look(pid);
    const elapsed = (performance.now() - began) / 1000;
    const held = await downloads.held();
    await downloads.leave();
    const after = await settled(pid, before);
    const again = await Downloads.of(port, load, AGAIN);
    await again.held();
    const { memory } = look(pid);
    await again.leave();
    await settled(pid, before);
    return {
      name,
      held,
      user: (last.user - first.user) / elapsed,
      system: (last.system - first.system) / elapsed,
      memory: (last.memory - before.memory) / connections,
      descriptors: (last.descriptors - before.descriptors) / connections,
      idle,
      small: median(times),
      slowest: Math.max(...times),
      keptDescriptors: Math.max(0, after.descriptors - before.descriptors),
      grown: (memory - last.memory) / connections,
    };
  } finally {
    await server.end();
  }
}

/** The failures; empty if everything is right. */
function complaints({ held, keptDescriptors, grown }: Result, { seconds, rate }: Load): string[] {
  return [
    held.ended > 0 ? `${held.ended} downloads ended early` : "",
    held.wrong > 0 ? `${held.wrong} downloads had a wrong byte` : "",
    held.least < rate * seconds / 2 ? `a download had only ${held.least} bytes` : "",
    keptDescriptors > 2 ? `${keptDescriptors} descriptors stayed open` : "",
    grown > NOISE ? `the second time took ${kib(grown)} more for each connection` : "",
  ].filter((text) => text !== "");
}

function row([first, ...cells]: readonly string[]): void {
  console.log(first.padEnd(12) + cells.map((cell) => cell.padStart(11)).join(""));
}

const percent = (part: number) => `${(100 * part).toFixed(1)} %`;
const kib = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`;
const ms = (time: number) => `${time.toFixed(1)} ms`;

/** The limit of open files of one process. */
function limit(): number {
  return Number(/^Max open files\s+(\d+)/m.exec(Deno.readTextFileSync("/proc/self/limits"))![1]);
}

const { values } = parseArgs({
  options: {
    connections: { type: "string", default: String(Math.floor((limit() - 1000) / 2)) },
    seconds: { type: "string", default: "60" },
    rate: { type: "string", default: "1024" },
    only: { type: "string" },
  },
});
const names = values.only?.split(",") ?? Object.keys(SERVERS);
for (const name of names) if (!(name in SERVERS)) throw new TypeError(`no server ${name}`);
const own = Deno.makeTempDirSync({ prefix: "scale-" });
try {
  const load: Load = {
    dir: own,
    hold: `${own}/hold`,
    connections: positive("connections", values.connections),
    seconds: positive("seconds", values.seconds),
    rate: positive("rate", values.rate),
  };
  const compiled = await new Deno.Command("cc", { args: ["-O2", "-o", load.hold, local("hold.c")] }).output();
  if (!compiled.success) throw new Error(new TextDecoder().decode(compiled.stderr));
  const large = new Uint8Array(LARGE);
  for (let at = 0; at < LARGE; at += 65_536) crypto.getRandomValues(large.subarray(at, at + 65_536));
  Deno.writeFileSync(`${own}/large.bin`, large);
  Deno.writeFileSync(`${own}/small.bin`, large.subarray(0, SMALL));
  console.log(
    `${load.connections} downloads at ${load.rate} bytes/s for ${load.seconds} s; load ${Deno.loadavg()[0]}`,
  );
  row(["", "user", "system", "memory", "fds", "idle", "small", "slowest", "least", "again", "kept fds"]);
  for (const name of names) {
    let result: Result;
    try {
      result = await measure(name, load);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      console.log(`  ${name}: ${error.message}`);
      if (name.startsWith("static-")) Deno.exitCode = 1;
      continue;
    }
    row([
      name,
      percent(result.user),
      percent(result.system),
      kib(result.memory),
      result.descriptors.toFixed(2),
      ms(result.idle),
      ms(result.small),
      ms(result.slowest),
      kib(result.held.least),
      kib(result.grown),
      String(result.keptDescriptors),
    ]);
    for (const complaint of complaints(result, load)) {
      console.log(`  ${name}: ${complaint}`);
      if (name.startsWith("static-")) Deno.exitCode = 1;
    }
  }
} finally {
  Deno.removeSync(own, { recursive: true });
}
