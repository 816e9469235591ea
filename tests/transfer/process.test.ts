/** What only a process of its own can show: permissions, the end of the process, system calls, other machines. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { fromFileUrl, join } from "@std/path";
import type { SendfileStart, SendfileStats } from "../../mod.ts";
import { bytes, folder, testFile } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";

const here = (path: string) => fromFileUrl(new URL(path, import.meta.url));
const CHILD = here("../children/transfer.ts");
const SIZE = 3_000_001;

interface Report {
  arch: string;
  can: boolean;
  why: string | null;
  sent: number;
  starts: SendfileStart[];
  stats: SendfileStats;
}

interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

function run(command: string, args: string[], env: Record<string, string> = {}): Promise<Run> {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const result: Run = { code: null, stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => result.stdout += chunk);
  child.stderr.on("data", (chunk) => result.stderr += chunk);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ ...result, code }));
  });
}

function has(program: string): boolean {
  return spawnSync(program, ["--version"]).error === undefined;
}

const missing = (program: string) => has(program) ? undefined : `${program} is not installed`;

/** This runtime's command for a script; on Deno with exactly these permissions. */
function command(permissions: string[], ...args: string[]): string[] {
  return isBun
    ? [process.execPath, ...args]
    : [process.execPath, "run", "--no-check", ...permissions, ...args];
}

function reportOf({ code, stdout, stderr }: Run): Report {
  assertEquals(code, 0, stderr);
  return JSON.parse(stdout.split("\n").find((line) => line.startsWith("{"))!);
}

async function report([program, ...args]: string[], env?: Record<string, string>): Promise<Report> {
  return reportOf(await run(program, args, env));
}

function assertNative({ can, why, sent, starts, stats }: Report): void {
  assertEquals([can, why, sent, starts], [true, null, SIZE, [{ via: "sendfile" }]]);
  assertEquals([stats.sendfile.bytes, stats.copy.bytes], [SIZE, 0]);
  assert(stats.waits > 0, "it never had to wait");
}

function assertCopied({ can, sent, starts, stats }: Report, reason: string): void {
  assertEquals([can, sent], [false, SIZE]);
  assertEquals(starts.map(({ via }) => via), ["copy"]);
  assertStringIncludes(starts[0].reason!, reason);
  assertEquals([stats.sendfile.bytes, stats.copy.bytes], [0, SIZE]);
}

test("a process ends by itself after a transfer that had to wait", async () => {
  using file = testFile(bytes(SIZE));
  assertNative(await report(command(["-A"], CHILD, file.path)));
});

test("ZEROCOPY_SENDFILE=0 turns sendfile off", async () => {
  using file = testFile(bytes(SIZE));
  assertCopied(
    await report(command(["-A"], CHILD, file.path), { ZEROCOPY_SENDFILE: "0" }),
    "ZEROCOPY_SENDFILE=0",
  );
});

if (!isBun) {
  const base = ["--allow-net", "--allow-read"];

  test("without --allow-ffi the file is copied, and nothing is asked", async () => {
    using file = testFile(bytes(SIZE));
    assertCopied(await report(command(base, CHILD, file.path)), "--allow-ffi");
    assertCopied(await report(command([...base, "--deny-ffi"], CHILD, file.path)), "--allow-ffi");
  });

  test("without --allow-ffi, at a terminal, there is no prompt either", async () => {
    using file = testFile(bytes(SIZE));
    const line = command(base, CHILD, file.path).join(" ");
    const { stdout, code } = await run("script", ["-qec", line, "/dev/null"]);
    assertEquals(code, 0, stdout);
    assert(!stdout.includes("requests"), stdout);
    assertStringIncludes(stdout, '"via":"copy"');
  }, { skip: missing("script") });

  test("--allow-ffi limited to the path of libc is enough", async () => {
    using file = testFile(bytes(SIZE));
    const libc = ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/aarch64-linux-gnu/libc.so.6"].find(
      fs.existsSync,
    );
    assertNative(await report(command([...base, `--allow-ffi=${libc}`], CHILD, file.path)));
  });

  test("importing asks for nothing and opens nothing, without any permission", async () => {
    const { code, stdout, stderr } = await run(process.execPath, [
      "eval",
      "--no-check",
      `await import(${
        JSON.stringify(new URL("../../mod.ts", import.meta.url).href)
      }); console.log("imported");`,
    ]);
    assertEquals([code, stdout.trim()], [0, "imported"], stderr);
  });
}

test("importing opens no descriptor", async () => {
  const [program, ...args] = command(["-A"], here("../children/import.ts"));
  const { stdout, stderr } = await run(program, args);
  assertEquals(stdout.trim(), "0", stderr);
});

test("strace: the file's bytes leave by sendfile(2), and nobody reads them", async () => {
  using file = testFile(bytes(SIZE));
  const log = `${file.path}.strace`;
  const traced = ["-f", "-qq", "-o", log, "-e", "trace=sendfile,openat,read,pread64,close,dup,fcntl"];
  // The child compares with its own copy of the file, so the sending side gets the file under another name.
  const link = `${file.path}.link`;
  fs.linkSync(file.path, link);
  const script = here("../children/strace.ts");
  const { code, stderr } = await run("strace", [...traced, ...command(["-A"], script, link)]);
  assertEquals(code, 0, stderr);
  const lines = fs.readFileSync(log, "utf8").split("\n");
  const opened = lines.findIndex((line) => line.includes(`"${link}"`));
  const fd = / = (\d+)$/.exec(lines[opened])![1];
  // By the runtimes' own sendfiles (they copy with it as well) nothing goes from this descriptor.
  const calls = lines.slice(opened).filter((line) => new RegExp(` sendfile\\(\\d+, ${fd}, `).test(line));
  const moved = calls.reduce((sum, line) => sum + Math.max(0, Number(/ = (-?\d+)/.exec(line)![1])), 0);
  assertEquals(moved, SIZE);
  const until = lines.findIndex((line, i) => i > opened && line.includes(` close(${fd})`));
  const reads = lines.slice(opened, until).filter((line) => new RegExp(` p?read(64)?\\(${fd}, `).test(line));
  assertEquals(reads, []);
}, { skip: missing("strace") });

if (isBun) {
  test("the waiting worker starts from a compiled package, whose .ts has become .js", async () => {
    const dir = folder();
    const root = join(dir, "node_modules", "@jsr", "zerocopy__sendfile");
    compile(here("../.."), root);
    using file = testFile(bytes(SIZE));
    const script = join(dir, "child.ts");
    fs.copyFileSync(CHILD, script);
    assertNative(await report([process.execPath, script, file.path, `${root}/`, ".js"]));
    fs.rmSync(dir, { recursive: true });
  });

  const arm = process.env.BUN_ARM64 ?? here("../../node_modules/@oven/bun-linux-aarch64/bin/bun");
  const qemu = process.arch === "arm64" ? undefined : missing("qemu-aarch64");
  const noArm = fs.existsSync(arm) ? undefined : "Bun for arm64 is not installed (BUN_ARM64)";

  test("arm64: a transfer that must wait", async () => {
    using file = testFile(bytes(SIZE));
    const env = { QEMU_LD_PREFIX: "/usr/aarch64-linux-gnu" };
    const result = await report(["qemu-aarch64", arm, CHILD, file.path], env);
    assertEquals(result.arch, "arm64");
    assertNative(result);
  }, { skip: qemu ?? noArm });
}

/** What JSR's npm mirror does with a package: types are stripped, `.ts` imports renamed, strings left alone. */
function compile(from: string, to: string): void {
  const { Transpiler } = (globalThis as unknown as {
    Bun: { Transpiler: new (options: object) => { transformSync(code: string): string } };
  }).Bun;
  const transpiler = new Transpiler({ loader: "ts", target: "bun" });
  for (const folder of [".", "fallback", "ffi", "files", "report", "sockets", "transfer"]) {
    for (const name of fs.readdirSync(join(from, folder))) {
      if (!name.endsWith(".ts")) continue;
      write(join(to, folder, name.replace(/ts$/, "js")), join(from, folder, name));
    }
  }

  function write(target: string, source: string): void {
    const code = transpiler.transformSync(fs.readFileSync(source, "utf8"));
    fs.mkdirSync(join(target, ".."), { recursive: true });
    fs.writeFileSync(target, code.replace(/(from\s*|import\s*\(?\s*)"(\.[^"]*)\.ts"/g, '$1"$2.js"'));
  }
}
