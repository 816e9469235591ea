/** A site of files, and the static server in a child process that serves it. */
import { assert, assertEquals } from "@std/assert";
import { join, resolve } from "@std/path";
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import process from "node:process";
import { isBun } from "./harness.ts";
import { DEADLINE } from "./http_client.ts";

export const CLI = resolve(import.meta.dirname!, "../../cli.ts");

export const MIB = 1024 * 1024;

/** Sizes around an empty body, a page, a read buffer, Bun's threshold for sendfile, a socket buffer. */
export const SIZES = [0, 1, 4096, 65537, MIB + 3, 20 * MIB];

/** The target of the site's largest file. */
export const LARGE = `/${20 * MIB}.bin`;

/** Why a test that needs `command` is skipped. */
export function missing(command: string): string | undefined {
  return spawnSync(command, ["--version"]).error ? `no ${command}` : undefined;
}

export const noProc = fs.existsSync("/proc/self/fd") ? undefined : "no /proc";

/** What `look` gives, once it is something. */
export async function until<T>(
  look: () => T | undefined | false | Promise<T | undefined | false>,
  what: string,
): Promise<T> {
  for (const end = Date.now() + DEADLINE; Date.now() < end;) {
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`waited in vain for ${what}`);
}

/** A directory `root` to serve, beside a secret. */
export class Site {
  readonly base = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "serve-")));
  readonly root = join(this.base, "root");
  readonly files = new Map<string, Buffer>();

  constructor() {
    fs.mkdirSync(this.root);
    fs.writeFileSync(join(this.base, "secret.txt"), "SECRET");
    for (const size of SIZES) this.add(`${size}.bin`, randomBytes(size));
    this.add("index.html", "<h1>index</h1>");
  }

  path(name: string): string {
    return join(this.root, name);
  }

  add(name: string, content: string | Buffer): void {
    fs.mkdirSync(resolve(this.path(name), ".."), { recursive: true });
    fs.writeFileSync(this.path(name), content);
    this.files.set(`/${name}`, Buffer.from(content));
  }
}

export interface StartOptions {
  args?: string[];
  /** Before the runtime's own command. */
  before?: string[];
  /** Deno's permission flags. */
  permissions?: string[];
  /** What to run in place of cli.ts under this runtime. */
  command?: string[];
  env?: Record<string, string>;
  cwd?: string;
  /** What `serving` expects of its standard error. */
  errors?: RegExp;
}

/** cli.ts in a child of this runtime, as it writes lines. */
export class Server {
  readonly lines: string[] = [];
  readonly child: ChildProcess;
  errors = "";
  /** The exit code, once all of its output has been read. */
  code: number | null | undefined;
  port = 0;

  constructor({ args = [], before = [], permissions = ["-A"], command, env, cwd }: StartOptions) {
    const runtime = isBun ? [] : ["run", ...permissions];
    const [program, ...rest] = [...before, ...command ?? [process.execPath, ...runtime, CLI], ...args];
    const stdio: ["ignore", "pipe", "pipe"] = ["ignore", "pipe", "pipe"];
    this.child = spawn(program, rest, { stdio, env: { ...process.env, ...env }, cwd });
    let text = "";
    this.child.stdout!.on("data", (bytes) => {
      const lines = (text + bytes).split("\n");
      text = lines.pop()!;
      this.lines.push(...lines);
    });
    this.child.stderr!.on("data", (bytes) => this.errors += bytes);
    this.child.once("close", (code) => this.code = code);
  }

  async listening(): Promise<void> {
    await this.line(/^zero-copy: /);
    this.port = Number(/:(\d+)\/$/.exec(this.lines[1])![1]);
  }

  line(pattern: RegExp): Promise<string> {
    return until(
      () => this.lines.find((line) => pattern.test(line)),
      `${pattern} among\n${this.lines.join("\n")}`,
    );
  }

  /** Descriptors that the process has open. */
  descriptors(): number {
    return fs.readdirSync(`/proc/${this.child.pid}/fd`).length;
  }

  /** Files below `directory` that the process has open. */
  held(directory: string): string[] {
    if (noProc || this.code !== undefined) return [];
    return fs.readdirSync(`/proc/${this.child.pid}/fd`).map((fd) => {
      try {
        return fs.readlinkSync(`/proc/${this.child.pid}/fd/${fd}`);
      } catch {
        return ""; // closed meanwhile
      }
    }).filter((path) => path.startsWith(directory));
  }

  exit(): Promise<number | null> {
    return until(() => this.code, "the exit");
  }

  async stop(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exit();
  }
}

/** Runs `body` with a server of a fresh site, whatever it does to them. */
export async function serving(
  body: (server: Server, site: Site) => Promise<void>,
  options: StartOptions & { prepare?: (site: Site) => void } = {},
): Promise<void> {
  const site = new Site();
  try {
    options.prepare?.(site);
    const server = new Server({
      ...options,
      args: [...options.args ?? [], "-p", "0", "--host", "127.0.0.1", site.root],
    });
    try {
      await server.listening();
      await body(server, site);
      assert((options.errors ?? /^$/).test(server.errors), server.errors);
      await until(() => server.held(site.root).length === 0, "the server to close its files");
    } finally {
      await server.stop();
    }
  } finally {
    fs.rmSync(site.base, { recursive: true });
  }
}

/** Processes that `pid` has started, also those that have ended but were not waited for. */
export function childrenOf(pid: number): number[] {
  try {
    const text = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1");
    return text.split(" ").filter(Boolean).map(Number);
  } catch {
    return []; // it has ended
  }
}

/** That the command line refuses these arguments: with the exit code, and a message on standard error alone. */
export async function assertRefused(args: string[], code: number, message: RegExp): Promise<void> {
  const server = new Server({ args });
  try {
    assertEquals(await server.exit(), code);
    assert(message.test(server.errors), server.errors);
    assertEquals(server.lines, []);
  } finally {
    await server.stop();
  }
}

/** Whether nobody listens on a port of loopback. */
export function refusesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", () => resolve(true));
  });
}
