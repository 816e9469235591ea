/** What says whether and where files go by sendfile(2): `sendfileReport`, `cli doctor`, the static server's start. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import { replaceLibc } from "../../ffi/load.ts";
import { type SendfileReport, sendfileReport } from "../../mod.ts";
import { adviceFor } from "../../report/advice.ts";
import { makeReport } from "../../report/make_report.ts";
import { checkReceived, type Probe } from "../../report/probe.ts";
import { isBun, test } from "../support/harness.ts";
import { run } from "../package/process.ts";
import { CLI, missing, noProc, Server, until } from "../support/site.ts";
import { NO_PERMISSION } from "../../reasons.ts";

const notLinux = process.platform === "linux" ? undefined : "not Linux";

/** Kinds and how a file went on each. */
function waysOf({ sockets }: SendfileReport): Record<string, string | undefined> {
  return Object.fromEntries(sockets.map(({ kind, via }) => [kind, via]));
}

const WAYS = isBun
  ? {
    "Bun.listen, TCP": "sendfile",
    "Bun.connect, TCP": "sendfile",
    "Bun.listen, unix socket": "sendfile",
  }
  : {
    "Deno.listen, TCP": "sendfile",
    "Deno.connect, TCP": "sendfile",
    "Deno.listen, unix socket": "copy",
  };
const NODE = { "node:net, TCP": "sendfile", "node:net, unix socket": "sendfile", "node:http": "sendfile" };

function openSockets(): number {
  return fs.readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
    } catch {
      return false; // the directory's own descriptor
    }
  }).length;
}

/** cli.ts with arguments, under Deno with permissions. */
function cli(args: string[], permissions = ["-A"], env: Record<string, string> = {}) {
  const runtime = isBun ? [] : ["run", "--no-check", "--node-modules-dir=none", ...permissions];
  return run([process.execPath, ...runtime, CLI, ...args], { env });
}

test(
  "sendfileReport: every kind of socket that can uses sendfile, and every sent byte arrives",
  async () => {
    const before = openSockets();
    const report = await sendfileReport();
    await sendfileReport();
    // They may be on their way out.
    await until(() => openSockets() <= before, "no more open sockets than before");
    assertEquals(waysOf(report), { ...WAYS, ...NODE, TLS: undefined });
    for (const { kind, bytes, problem } of report.sockets) {
      assertEquals([bytes, problem], [kind === "TLS" ? 0 : 4 * 1024 * 1024, undefined], kind);
    }
    assertEquals([report.ok, report.available, report.reason], [true, true, undefined]);
    assertStringIncludes(report.system, `${process.platform} `);
    assertEquals(report.runtime, isBun ? `bun ${process.versions.bun}` : `deno ${Deno.version.deno}`);
    const control = fs.readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "latin1").trim();
    assertEquals(report.congestionControl, control);
  },
  { skip: notLinux ?? noProc },
);

test("sendfileReport: without sendfile(2) all is copied, arrives, and is not ok", async () => {
  replaceLibc(undefined);
  try {
    const fakes = "turned off by ZEROCOPY_SENDFILE=0";
    replaceLibc(fakes as never);
    const report = await sendfileReport();
    assertEquals([report.ok, report.available, report.reason], [false, false, fakes]);
    assertEquals(report.advice, "take ZEROCOPY_SENDFILE out of the environment");
    for (const { kind, via, reason, bytes } of report.sockets) {
      if (kind === "TLS") continue;
      assertEquals([via, reason, bytes], ["copy", fakes, 4 * 1024 * 1024], kind);
    }
  } finally {
    replaceLibc(undefined);
  }
});

test("sendfileReport: a transfer that fails or arrives as other bytes is told, and is not ok", async () => {
  const failing: Probe = { kind: "failing", run: () => Promise.reject(new Error("broken")) };
  const lying: Probe = {
    kind: "lying",
    // deno-lint-ignore require-await -- makes a rejection of what checkReceived throws
    async run({ bytes }) {
      const other = bytes.slice();
      other[other.length - 1] ^= 1;
      checkReceived(other, bytes);
      return { via: "sendfile" };
    },
  };
  const short: Probe = {
    kind: "short",
    // deno-lint-ignore require-await -- makes a rejection of what checkReceived throws
    async run({ bytes }) {
      checkReceived(bytes.subarray(1), bytes);
      return { via: "sendfile" };
    },
  };
  const report = await makeReport([failing, lying, short]);
  const problems = report.sockets.filter(({ problem }) => problem !== undefined)
    .map(({ kind, problem, via, bytes }) => [kind, problem, via, bytes]);
  assertEquals(problems, [
    ["failing", "broken", undefined, 0],
    ["lying", "the bytes that arrived differ from those sent", undefined, 0],
    ["short", "4194303 bytes arrived in place of 4194304", undefined, 0],
  ]);
  assertEquals(report.ok, false);
});

test("sendfileReport: a kind of socket that copies although it could use sendfile is not ok", async () => {
  const copied: Probe = {
    kind: "copied",
    run: () => Promise.resolve({ via: "copy", reason: "its descriptor was not found" }),
  };
  const report = await makeReport([copied]);
  assertEquals([report.available, report.ok], [true, false]);
}, { skip: notLinux });

test("doctor: prints what sendfileReport finds, and ends with code 0", async () => {
  const { code, stdout, stderr } = await cli(["doctor"]);
  assertEquals([code, stderr], [0, ""]);
  assert(/^zero-copy +on$/m.test(stdout), stdout);
  const http = isBun ? {} : { "Deno.serve, withSendfile": "sendfile" };
  for (const [kind, via] of Object.entries({ ...WAYS, ...NODE, ...http })) {
    assert(
      new RegExp(`^${kind} +${via}.*: 4194304 bytes sent, the same arrived$`, "m").test(stdout),
      `${kind}: ${stdout}`,
    );
  }
  assert(/^TLS +copy/m.test(stdout), stdout);
  assert(stdout.endsWith("ok: files go by sendfile(2) wherever this runtime lets them\n"), stdout);
}, { skip: notLinux });

test("doctor: --json prints the report, and another argument ends it with code 2", async () => {
  const { code, stdout } = await cli(["doctor", "--json"]);
  const report: SendfileReport = JSON.parse(stdout);
  assertEquals([code, report.ok, report.sockets.at(-1)!.kind], [0, true, "TLS"]);
  const wrong = await cli(["doctor", "public"]);
  assertEquals([wrong.code, wrong.stderr], [
    2,
    'error: doctor takes --json and nothing else, not "public"\n',
  ]);
}, { skip: notLinux });

test("doctor: if the environment turns sendfile off, it says so and what to change, and ends with code 1", async () => {
  const { code, stdout } = await cli(["doctor"], ["-A"], { ZEROCOPY_SENDFILE: "0" });
  assertEquals(code, 1);
  assertStringIncludes(stdout, "off (turned off by ZEROCOPY_SENDFILE=0)");
  assertEquals(stdout.match(/-> take ZEROCOPY_SENDFILE out of the environment/g)?.length, 1, stdout);
  assert(stdout.endsWith("not ok: files are copied\n"), stdout);
});

test("doctor: without FFI permission it names the one flag, and with that it ends with code 0", async () => {
  const others = ["--allow-net=127.0.0.1", "--allow-read"];
  const without = await cli(["doctor"], others);
  assertEquals([without.code, without.stderr], [1, ""]);
  const flag = /-> add (--allow-ffi=\S+)$/m.exec(without.stdout)?.[1];
  assert(flag !== undefined, without.stdout);
  assert(/^Deno\.listen, TCP +copy \(no permission.*the same arrived$/m.test(without.stdout), without.stdout);
  assert(
    /^node:net, unix socket +not tried: it needs --allow-write=\/tmp$/m.test(without.stdout),
    without.stdout,
  );
  const withIt = await cli(["doctor"], [...others, flag]);
  assertEquals(withIt.code, 0, withIt.stdout);
  assert(/^Deno\.listen, TCP +sendfile: /m.test(withIt.stdout), withIt.stdout);
}, { only: "deno", skip: notLinux });

test("doctor: without any permission it never prompts, not even on a terminal", async () => {
  const deno = `'${process.execPath}' run --no-check --node-modules-dir=none '${CLI}' doctor`;
  const { code, stdout } = await run(["script", "-qec", deno, "/dev/null"]);
  assertEquals(code, 1);
  assert(!/Allow\?|requests/.test(stdout), stdout);
  assertStringIncludes(stdout, "not tried: it needs --allow-read=");
  assertStringIncludes(stdout, "not ok: files are copied");
}, { only: "deno", skip: notLinux ?? missing("script") });

test("the static server's start names the one flag that turns zero-copy on, and it does", async () => {
  const others = ["--allow-net", "--allow-read"];
  const start = (permissions: string[]) =>
    new Server({ args: ["--port=0", "--host=127.0.0.1", import.meta.dirname!], permissions });
  let flag: string;
  const off = start(others);
  try {
    const line = await off.line(/^to turn it on: /);
    assertStringIncludes(await off.line(/^zero-copy: /), "zero-copy: off (no permission");
    flag = /^to turn it on: add (--allow-ffi=\S+)$/.exec(line)![1];
  } finally {
    await off.stop();
  }
  const on = start([...others, flag]);
  try {
    assertEquals(await on.line(/^zero-copy: /), "zero-copy: on");
    await on.listening();
    await on.line(/^sendfile /); // the last one
    assertEquals(on.lines.filter((line) => line.startsWith("to turn it on")), []);
  } finally {
    await on.stop();
  }
}, { only: "deno", skip: notLinux });

test("adviceFor: says what to change for each reason that a process can have", () => {
  for (
    const reason of [
      NO_PERMISSION,
      "turned off by ZEROCOPY_SENDFILE=off",
      "off on macOS unless ZEROCOPY_SENDFILE=1 is set",
      "Deno 2.8 or newer is needed",
      "Bun 1.3.3 or newer is needed",
      "this runtime has no FFI",
      "no sendfile on win32",
      "no ABI file for linux on riscv64",
      "the C library could not be loaded: no such file",
      "the kernel has no sendfile (ENOSYS)",
    ]
  ) assert(adviceFor(reason) !== undefined, reason);
  assertEquals(adviceFor("the socket is closed"), undefined);
});
