/** withSendfile in a process of its own: permissions, deno serve, and what strace sees. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import type { BodyWay } from "../../../http/mod.ts";
import { test } from "../../support/harness.ts";
import { assertSame, Client, request } from "../../support/http_client.ts";
import { missing, until } from "../../support/site.ts";
import { DENO, FIRST, LARGE, only, SENDFILE, withFiles } from "../../support/with_sendfile.ts";

/** A server in a child process, which prints its address and each way. */
class Child {
  readonly child: ChildProcess;
  output = "";
  ended = false;

  constructor([command, ...args]: string[], env: Record<string, string> = {}) {
    this.child = spawn(command, args, {
      cwd: tmpdir(), // here Deno would find tasks
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on("data", (chunk) => this.output += chunk);
    }
    this.child.once("close", () => this.ended = true);
  }

  async port(): Promise<number> {
    const found = await until(
      () => /127\.0\.0\.1:(\d+)/.exec(this.output) ?? (this.ended && "ended"),
      `the port: ${this.output}`,
    );
    assert(found !== "ended", this.output);
    return Number(found[1]);
  }

  /** What was printed of the ways, once it is so many. */
  ways(count: number): Promise<BodyWay[]> {
    const lines = () =>
      this.output.split(/\r?\n/).flatMap((line) =>
        /^(?:\[serve-worker-\d+ *\] )?(\{.*\})$/.exec(line)?.[1] ?? []
      );
    return until(
      () => lines().length >= count && lines().map((line) => JSON.parse(line)),
      `${count} ways: ${this.output}`,
    );
  }

  async stop(): Promise<void> {
    this.child.kill("SIGKILL");
    await until(() => this.ended, "the child to end");
  }
}

/** Writes the server into a folder of its own, so that neither tasks nor links of this package are in its way. */
function script(root: string, start: string): string {
  const url = (path: string) => new URL(path, import.meta.url).href;
  const imports = { "@std/path": url("../../std/path/mod.ts"), "mime-types": "npm:mime-types@^3.0.2" };
  const config = { imports, nodeModulesDir: "none", lock: false };
  fs.mkdirSync(join(root, ".server"));
  fs.writeFileSync(join(root, ".server/deno.json"), JSON.stringify(config));
  const path = join(root, ".server/server.ts");
  fs.writeFileSync(
    path,
    `import { serveDir, withSendfile } from ${JSON.stringify(url("../../../http/mod.ts"))};
    const handler = withSendfile((request) => {
      if (request.url.endsWith("/exit")) Deno.exit();
      return serveDir(request, { fsRoot: ${JSON.stringify(root)}, quiet: true });
    }, { onBody: (way) => console.log(JSON.stringify(way)) });
    ${start}`,
  );
  return path;
}

const LISTEN = `Deno.serve({ hostname: "127.0.0.1", port: 0 }, handler);`;

/** A command of Deno's on a script. */
function deno(subcommand: "run" | "serve", flags: string[], path: string): string[] {
  return [
    "env",
    process.execPath,
    subcommand,
    "--no-check",
    "--config",
    join(path, "../deno.json"),
    ...flags,
    path,
  ];
}

/** Starts a server of a folder with files, in a child, and stops it. */
async function inChild(
  body: (port: number, child: Child) => Promise<void>,
  command: (root: string) => string[],
  env: Record<string, string> = {},
): Promise<void> {
  await withFiles(async (root) => {
    const child = new Child(command(root), env);
    try {
      await body(await child.port(), child);
    } finally {
      await child.stop();
    }
  });
}

/** One large file from a child; which way it went. */
async function wayOf(port: number, child: Child): Promise<BodyWay> {
  const client = await Client.to(port);
  client.send(request("/large.bin"));
  assertSame((await client.reply()).body, LARGE, "the file");
  client.close();
  const ways = await child.ways(1);
  assertEquals(ways.length, 1);
  return ways[0];
}

const LESS = ["--allow-net", "--allow-read"];

for (const permissions of [LESS, [...LESS, "--deny-ffi"]]) {
  const said = permissions.includes("--deny-ffi") ? "with --deny-ffi" : "without --allow-ffi";
  test(`${said} the server sends the file, and the reason is told`, () =>
    inChild(async (port, child) => {
      const { via, reason } = await wayOf(port, child);
      assertEquals(via, "native");
      assertStringIncludes(reason!, "--allow-ffi");
    }, (root) => deno("run", ["--no-prompt", ...permissions], script(root, LISTEN))), DENO);
}

test("without --allow-ffi, at a terminal, nothing is asked", () =>
  inChild(async (port, child) => {
    assertEquals((await wayOf(port, child)).via, "native");
    const client = await Client.to(port);
    client.send(request("/exit"));
    await client.rest();
    client.close();
    await until(() => child.ended, "the child to end");
    assert(!child.output.includes("requests"), child.output);
  }, (root) => ["script", "-qec", deno("run", LESS, script(root, LISTEN)).join(" "), "/dev/null"]), {
  ...DENO,
  skip: missing("script"),
});

test(
  "with no more permission than for the net, files and FFI it goes by sendfile",
  () =>
    inChild(async (port, child) => {
      assertEquals(await wayOf(port, child), SENDFILE);
    }, (root) => deno("run", ["--no-prompt", ...LESS, "--allow-ffi"], script(root, LISTEN))),
  DENO,
);

test("ZEROCOPY_SENDFILE=0 leaves all to the server", () =>
  inChild(
    async (port, child) => {
      const { via, reason } = await wayOf(port, child);
      assertEquals(via, "native");
      assertStringIncludes(reason!, "ZEROCOPY_SENDFILE=0");
    },
    (root) => deno("run", ["-A"], script(root, LISTEN)),
    { ZEROCOPY_SENDFILE: "0" },
  ), DENO);

for (const flags of [[], ["--parallel"]]) {
  test(
    `deno serve ${flags}${flags.length > 0 ? " " : ""}sends files of its default export by sendfile`,
    () =>
      inChild(async (port, child) => {
        assertEquals(await wayOf(port, child), SENDFILE);
        for (let i = 0; i < 10; i++) {
          assertSame((await only(port, request("/large.bin"))).body, LARGE, "another");
        }
        assertEquals(await child.ways(11), Array(11).fill(SENDFILE));
      }, (root) => {
        const path = script(root, "export default { fetch: handler };");
        return deno("serve", ["-A", ...flags, "--host", "127.0.0.1", "--port", "0"], path);
      }),
    DENO,
  );
}

test(
  "strace: everything except the beginning is sent by sendfile(2) and never read",
  () =>
    withFiles(async (root) => {
      const trace = join(root, "trace");
      const calls = "trace=sendfile,openat,close,read,pread64,readv,preadv,preadv2,mmap";
      const strace = ["strace", "-D", "-f", "-s", "0", "-e", calls, "-o", trace];
      const child = new Child([...strace, ...deno("run", ["-A"], script(root, LISTEN))]);
      try {
        assertEquals(await wayOf(await child.port(), child), SENDFILE);
      } finally {
        await child.stop();
      }
      // The tracer, which is nobody's child, writes on for a moment.
      const text = await until(() => {
        const text = fs.readFileSync(trace, "utf8");
        const main = /^\d+/.exec(text)?.[0]; // the others are its threads
        return new RegExp(`^${main} +\\+\\+\\+ (killed|exited)`, "m").test(text) && text;
      }, "the end of the trace");
      const lines = joined(text);
      const files = new Set<string>();
      const sent: { out: string; from: number; count: number }[] = [];
      let read = 0;
      for (const line of lines) {
        const result = Number(/ = (-?\d+)/.exec(line)?.[1]);
        const [, name, fd] = /^\d+ +(\w+)\((\d*)/.exec(line) ?? [];
        if (name === "openat" && line.includes(join(root, "large.bin"))) files.add(String(result));
        else if (name === "close") files.delete(fd);
        // One byte tells whether a page is in memory.
        else if (line.includes("RWF_NOWAIT")) assert(result <= 1, line);
        else if (/^p?read/.test(name) && files.has(fd)) read += result;
        const call = /sendfile\((\d+), (\d+), \[(\d+)\]/.exec(line) ??
          /sendfile\((\d+), (\d+), \[(\d+) => \d+\]/.exec(line);
        if (call && result > 0) {
          assert(files.has(call[2]), line);
          sent.push({ out: call[1], from: Number(call[3]), count: result });
        }
        assert(name !== "mmap" || !new RegExp(`, (${[...files].join("|") || "none"}), 0`).test(line), line);
      }
      const first = sent[0].from;
      assert(first >= 1 && first <= FIRST, `${first} bytes by the server`);
      assertEquals(read, first);
      assertEquals(new Set(sent.map(({ out }) => out)).size, 1);
      let at = first;
      for (const { from, count } of sent) {
        assertEquals(from, at);
        at += count;
      }
      assertEquals(at, LARGE.length);
    }),
  { ...DENO, skip: missing("strace") },
);

/**
 * The lines of a trace, those that were interrupted by another thread's in one piece, where they ended. A `close()`
 * stands where it began: before it has ended, another thread may have got the number from `open()`.
 */
function joined(text: string): string[] {
  const open = new Map<string, string>();
  return text.split("\n").flatMap((line) => {
    const [, thread, call] = /^(\d+) +(\w+)?/.exec(line) ?? [];
    if (line.endsWith("<unfinished ...>")) {
      const begun = line.slice(0, -"<unfinished ...>".length);
      if (call === "close") return [begun];
      open.set(thread, begun);
      return [];
    }
    const resumed = /<\.\.\. (\w+) resumed>(.*)$/.exec(line);
    if (resumed?.[1] === "close") return [];
    return [resumed ? (open.get(thread) ?? "") + resumed[2] : line];
  });
}
