/** `serve` in a process of its own: what keeps the process running, and what it does without permissions. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { isBun, test } from "../support/harness.ts";

/** The code that a process ends with, that runs `script`; it is killed after some seconds. */
function run(
  script: string,
  flags = ["-A"],
  limit = "-n >/dev/null",
): Promise<{ code: number | null; output: string }> {
  const dir = fs.mkdtempSync(join(fs.realpathSync("/tmp"), "serve-run-"));
  const path = join(dir, "script.ts");
  const module = new URL("../../serve.ts", import.meta.url).href;
  fs.writeFileSync(
    path,
    script.replaceAll("SERVE", JSON.stringify(isBun ? new URL(module).pathname : module)),
  );
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const before = isBun
    ? []
    : ["run", ...flags, "--no-prompt", "--no-check", "--node-modules-dir=none", "--config", config];
  const command = [`ulimit ${limit}; exec "$@"`, "sh", process.execPath, ...before, path];
  const child = spawn("sh", ["-c", ...command], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => output += chunk);
  const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
  return new Promise((resolve) =>
    child.on("close", (code) => {
      clearTimeout(timer);
      fs.rmSync(dir, { recursive: true });
      resolve({ code, output });
    })
  );
}

test("serve's unref lets the process end, also with connections open", async () => {
  const { code, output } = await run(`
    import { serve } from SERVE;
    const server = serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => new Response("x"));
    await (await fetch("http://127.0.0.1:" + server.addr.port)).text();
    await (await fetch("http://127.0.0.1:" + server.addr.port, { method: "POST", body: "x" })).text();
    server.unref();
    server.ref();
    server.unref();
    console.log("end");
  `);
  assertEquals([code, output], [0, "end\n"]);
});

test("serve keeps the process running until it is shut down", async () => {
  const { code, output } = await run(`
    import { serve } from SERVE;
    const server = serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => new Response("x"));
    server.finished.then(() => console.log("finished"));
    const timer = setTimeout(() => server.shutdown(), 300);
    (timer.unref ? timer.unref() : Deno.unrefTimer(timer));
  `);
  assertEquals([code, output], [0, "finished\n"]);
});

test("serve is Deno.serve where it may not connect to itself, and asks for nothing", async () => {
  const { code, output } = await run(
    `
    import { serve } from SERVE;
    const server = serve({ hostname: "0.0.0.0", port: 0, onListen() {} }, (_, { remoteAddr }) =>
      new Response(remoteAddr.hostname));
    console.log(await (await fetch("http://0.0.0.0:" + server.addr.port)).text());
    await server.shutdown();
  `,
    ["--allow-read", "--allow-net=0.0.0.0"],
  );
  assertEquals([code, output], [0, "127.0.0.1\n"]);
}, { only: "deno" });

test("serve answers 503 where no descriptor is left to hand a request on, and goes on", async () => {
  const { code, output } = await run(
    `
    import { serve } from SERVE;
    const server = serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) =>
      new Response("got " + await request.text()));
    const { port } = server.addr;
    const text = new TextEncoder(), buffer = new Uint8Array(1000);
    const ask = async (conn, method) => {
      await conn.write(text.encode(method + " / HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n"));
      const bytes = await conn.read(buffer);
      return new TextDecoder().decode(buffer.subarray(0, bytes)).split("\\r\\n")[0];
    };
    const conns = await Promise.all([1, 2, 3].map(() => Deno.connect({ hostname: "127.0.0.1", port })));
    console.log(await ask(conns[0], "GET"), await ask(conns[1], "GET"));
    const held = [];
    try { for (;;) held.push(Deno.openSync("/dev/null")); } catch (error) { console.log(error.code); }
    console.log(await ask(conns[0], "POST"));
    console.log(await ask(conns[1], "GET"));
    held.forEach((file) => file.close());
    console.log(await ask(conns[2], "POST"));
    Deno.exit(0);
  `,
    ["-A"],
    "-n 200",
  );
  const lines = output.trim().split("\n");
  const refused = lines.filter((line) =>
    line.startsWith("a request could not be handed to Deno.serve: EMFILE")
  );
  assertEquals([code, refused.length], [0, 1], output);
  assertEquals(lines.filter((line) => !refused.includes(line)), [
    "HTTP/1.1 200 OK HTTP/1.1 200 OK",
    "EMFILE",
    "HTTP/1.1 503 Service Unavailable",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200 OK",
  ]);
}, { only: "deno" });

test("serve works without FFI", async () => {
  const { code, output } = await run(
    `
    import { serve } from SERVE;
    const server = serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => new Response("x".repeat(1e6)));
    console.log((await (await fetch("http://127.0.0.1:" + server.addr.port)).text()).length);
    await server.shutdown();
  `,
    ["--allow-read", "--allow-net"],
  );
  assertEquals([code, output], [0, "1000000\n"]);
}, { only: "deno" });

test("serve frees the responses of serveDir once, where a handler has set a field", async () => {
  const { code, output } = await run(
    `
    import { serve } from SERVE;
    const { serveDir } = await import(SERVE.replace("serve.ts", "http/mod.ts"));
    const server = serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
      const response = await serveDir(request, { fsRoot: "/", quiet: true });
      response.headers.set("X-Set", "1");
      return response;
    });
    for (let i = 0; i < 1500; i++) {
      await (await fetch("http://127.0.0.1:" + server.addr.port + "/missing")).text();
      if (i % 100 > 0) continue;
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 1)); // what was collected is freed in another turn
    }
    await server.shutdown();
    console.log("end");
  `,
    ["-A", "--v8-flags=--expose-gc"],
  );
  assertEquals([code, output], [0, "end\n"]);
}, { only: "deno" });
