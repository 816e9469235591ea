/** How `serve` is called, what it gives, and how it ends: on Deno its own engine, on Bun Bun.serve. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as https from "node:https";
import process from "node:process";
import { serve, type ServeAddr, type ServeHandler, type Server } from "../../serve.ts";
import { isBun, test } from "../support/harness.ts";
import { Client } from "../support/http_client.ts";
import { exchange, served, withServed } from "../support/served_twice.ts";
import { until } from "../support/site.ts";

const HERE = { hostname: "127.0.0.1", port: 0, onListen() {} };
const hello: ServeHandler = () => new Response("hello");

async function get(port: number, path = "/"): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return `${response.status} ${await response.text()}`;
}

const SHAPES: Record<string, () => Server> = {
  "options and a handler": () => serve(HERE, hello),
  "options with a handler": () => serve({ ...HERE, handler: hello }),
  "options with fetch": () => serve({ ...HERE, fetch: hello }),
  "options and an object with fetch": () => serve(HERE, { fetch: hello }),
  "an application, which needs itself": () => {
    class Application {
      readonly text = "hello";
      fetch(_request: Request): Response {
        return new Response(this.text);
      }
    }
    return serve(HERE, new Application());
  },
};

for (const [shape, start] of Object.entries(SHAPES)) {
  test(`serve takes ${shape}`, async () => {
    const server = start();
    try {
      assertEquals(server.addr.transport, "tcp");
      assertEquals(server.addr.hostname, "127.0.0.1");
      assertEquals(await get(server.addr.port), "200 hello");
    } finally {
      await server.shutdown();
    }
  });
}

test("serve says where it listens, on the console or to onListen", async () => {
  const { log } = console;
  const lines: unknown[] = [];
  console.log = (line) => lines.push(line);
  const told: ServeAddr[] = [];
  const servers: Server[] = [];
  try {
    servers.push(serve({ port: 0 }, hello));
    servers.push(serve({ port: 0, hostname: "127.0.0.1" }, hello));
    servers.push(serve({ ...HERE, onListen: (addr) => told.push(addr) }, hello));
  } finally {
    console.log = log;
  }
  const [one, two, three] = servers.map(({ addr }) => addr);
  assertEquals(lines, [
    `Listening on http://0.0.0.0:${one.port}/ (http://localhost:${one.port}/)`,
    `Listening on http://127.0.0.1:${two.port}/`,
  ]);
  assertEquals(told.map((addr) => ({ ...addr })), [{ ...three }]);
  assertEquals([one.hostname, two.hostname], ["0.0.0.0", "127.0.0.1"]);
  await Promise.all(servers.map((server) => server.shutdown()));
});

test("serve refuses what cannot be meant, by its name", () => {
  const wrong = (options: unknown, handler?: unknown) => () =>
    (serve as (...all: unknown[]) => Server)(options, handler);
  for (
    const [start, words] of [
      [wrong(undefined), "serve needs a handler"],
      [wrong(null, hello), "serve needs a handler"],
      [wrong(7), "serve needs a handler"],
      [wrong({}), "handler must be a function"],
      [wrong({ port: 0 }, {}), "handler must be a function"],
      [wrong({ port: 0 }, "no"), "handler must be a function"],
      [wrong({ handler: 1 }), "handler must be a function"],
      [wrong({ hostnam: "x" }, hello), "serve has no option hostnam"],
      [wrong({ path: "/tmp/socket" }, hello), "unix sockets"],
      [wrong({ automaticCompression: true }, hello), "automatic compression"],
      [wrong({ hostname: 1 }, hello), "hostname must be a string"],
      [wrong({ port: "80" }, hello), "port must be a number"],
      [wrong({ onListen: "x" }, hello), "onListen must be a function"],
      [wrong({ signal: {} }, hello), "signal must be an AbortSignal"],
      [wrong({ cert: "x" }, hello), "Both cert and key"],
    ] as const
  ) {
    const error = assertThrows(start, TypeError);
    assert((error as Error).message.includes(words), (error as Error).message);
  }
  for (const port of [-1, 65_536, 0.5, NaN]) {
    assertThrows(wrong({ port }, hello), RangeError, `port must be an integer from 0 to 65535, not ${port}`);
  }
});

test("serve throws where the port is taken, and leaves nothing behind", async () => {
  await withServed(served(hello), ({ port }) => {
    assertThrows(() => serve({ ...HERE, port }, hello));
    return Promise.resolve();
  });
});

test("serve's shutdown finishes what is under way, and takes nothing more", async () => {
  let go = () => {};
  let begun = 0;
  const slow: ServeHandler = async (request) => {
    if (new URL(request.url).pathname === "/quick") return new Response("quick");
    begun++;
    await new Promise<void>((resolve) => go = resolve);
    return new Response("slow");
  };
  const server = serve(HERE, slow);
  const { port } = server.addr;
  const idle = await Client.to(port);
  idle.send("GET /quick HTTP/1.1\r\nHost: test\r\n\r\n");
  assertEquals(String((await idle.reply()).body), "quick");
  const busy = await Client.to(port);
  busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
  await until(() => begun === 1, "the request");
  let ended = false;
  const shutdown = server.shutdown().then(() => ended = true);
  await idle.rest();
  idle.finish();
  await assertRejects(() => fetch(`http://127.0.0.1:${port}/`));
  assertEquals(ended, false);
  go();
  assertEquals(String((await busy.reply()).body), "slow");
  await busy.rest();
  busy.finish();
  await shutdown;
  await server.finished;
  idle.close();
  busy.close();
});

test("serve's shutdown under load cuts no response off", async () => {
  const body = "0123456789".repeat(5_000);
  for (const method of ["GET", "POST"]) {
    const server = serve(HERE, async (request) => {
      await request.text();
      return new Response(body);
    });
    const { port } = server.addr;
    let done = 0;
    let cut: unknown;
    const load = Array.from({ length: 20 }, async () => {
      for (let i = 0; i < 10_000; i++) {
        let client: Client;
        try {
          client = await Client.to(port);
        } catch {
          return; // it listens no more
        }
        try {
          client.send(`${method} / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
          const all = String(await client.rest());
          // What it had not accepted when it ended was never a request.
          if (all === "") return;
          if (!all.endsWith(body)) cut = all.length;
          done++;
        } finally {
          client.close();
        }
      }
    });
    await until(() => done > 100, "some load");
    await server.shutdown();
    await Promise.all(load);
    await server.finished;
    assertEquals(cut, undefined, method);
  }
}, { only: "deno" });

test("serve ends all at once where its signal is aborted", async () => {
  const stop = new AbortController();
  let begun = 0;
  const server = serve({ ...HERE, signal: stop.signal }, (request) => {
    begun++;
    if (request.method === "HEAD") return new Response();
    return new Promise(() => {});
  });
  const count = isBun ? 3 : 4; // Bun leaves a connection open that has brought no request
  const clients = await Promise.all(Array.from({ length: count }, () => Client.to(server.addr.port)));
  clients[0].send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
  clients[1].send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
  clients[2].send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
  await until(() => begun === 3, "the requests");
  stop.abort();
  await server.finished;
  for (const client of clients) {
    await client.rest();
    client.close();
  }
  await assertRejects(() => get(server.addr.port));
});

test("serve ends at once where its signal is aborted before", async () => {
  const server = serve({ ...HERE, signal: AbortSignal.abort() }, hello);
  await server.finished;
  await assertRejects(() => get(server.addr.port));
});

test("serve can be disposed of", async () => {
  let port = 0;
  {
    await using server = serve(HERE, hello);
    port = server.addr.port;
    assertEquals(await get(port), "200 hello");
  }
  await assertRejects(() => get(port));
});

/** The code that a process ends with, that runs `script`; it is killed after some seconds. */
function run(
  script: string,
  flags = ["-A"],
  limit = "-n >/dev/null",
): Promise<{ code: number | null; output: string }> {
  const dir = fs.mkdtempSync(join(fs.realpathSync("/tmp"), "serve-run-"));
  const path = join(dir, "script.ts");
  const module = new URL("../../serve.ts", import.meta.url).href;
  fs.writeFileSync(path, script.replace("SERVE", JSON.stringify(isBun ? new URL(module).pathname : module)));
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

const TLS = {
  cert: fs.readFileSync(join(import.meta.dirname!, "../tls/cert.pem"), "utf8"),
  key: fs.readFileSync(join(import.meta.dirname!, "../tls/key.pem"), "utf8"),
};

test("serve speaks HTTPS with a certificate", async () => {
  const server = serve({ ...HERE, ...TLS }, (request) => new Response(new URL(request.url).protocol));
  const text = await new Promise<string>((resolve, reject) => {
    const options = {
      host: "127.0.0.1",
      port: server.addr.port,
      rejectUnauthorized: false,
      agent: false,
    } as const;
    https.get(options, (response) => {
      let came = "";
      response.on("data", (chunk) => came += chunk);
      response.on("end", () => resolve(came));
    }).on("error", reject);
  });
  assertEquals(text, "https:");
  await server.shutdown();
});

test("serve tells the client's address and when a response has gone", async () => {
  const completed: Promise<void>[] = [];
  const tell: ServeHandler = (_, info) => {
    completed.push(info.completed);
    const { transport, hostname, port } = info.remoteAddr;
    return Response.json([transport, hostname, port]);
  };
  await withServed(served(tell), async ({ port }) => {
    const client = await Client.to(port);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assertEquals(JSON.parse(String((await client.reply()).body)), [
      "tcp",
      "127.0.0.1",
      client.socket.localPort,
    ]);
    await completed[0];
    client.close();
  });
});

test("serve tells by completed that a response did not get through", async () => {
  const completed: Promise<unknown>[] = [];
  const endless: ServeHandler = (_, info) => {
    completed.push(info.completed.then(() => "sent", (error) => error.name));
    return new Response(
      new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536)) }),
    );
  };
  await withServed(served(endless), async ({ port }) => {
    const client = await Client.to(port);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    await client.begun();
    client.socket.resetAndDestroy();
    assertEquals(await completed[0], "Interrupted");
  });
}, { only: "deno" });

for (const how of ["a reset", "an end"]) {
  test(`serve aborts request.signal where the client leaves by ${how}`, async () => {
    const signals: AbortSignal[] = [];
    const never: ServeHandler = (request) => {
      signals.push(request.signal);
      return new Promise(() => {});
    };
    await withServed(served(never), async ({ port }) => {
      const client = await Client.to(port);
      client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
      await until(() => signals.length === 1, "the request");
      assertEquals(signals[0].aborted, false);
      if (how === "a reset") client.socket.resetAndDestroy();
      else client.close();
      await until(() => signals[0].aborted, "the signal");
      assertEquals((signals[0].reason as Error).name, "AbortError");
    });
  });
}

test("serve leaves request.signal alone where the response has come through", async () => {
  const signals: AbortSignal[] = [];
  const quick: ServeHandler = (request) => {
    signals.push(request.signal);
    return new Response("x");
  };
  await withServed(served(quick), async ({ port }) => {
    await exchange(
      port,
      "GET / HTTP/1.1\r\nHost: test\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    );
    await exchange(port, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assertEquals(signals.map(({ aborted }) => aborted), [false, false, false]);
  });
}, { only: "deno" });

for (const says of ["something", "nothing"]) {
  test(`serve cancels a stream that says ${says} where the client has left`, async () => {
    let begun = false;
    let cancelled = false;
    const endless: ServeHandler = () =>
      new Response(
        new ReadableStream({
          async pull(controller) {
            begun = true;
            if (says === "nothing") return new Promise(() => {});
            await new Promise((resolve) => setTimeout(resolve, 5));
            controller.enqueue(new Uint8Array(100));
          },
          cancel: () => void (cancelled = true),
        }, { highWaterMark: 0 }),
      );
    await withServed(served(endless), async ({ port }) => {
      const client = await Client.to(port);
      client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
      await until(() => begun, "the stream");
      client.close();
      await until(() => cancelled, "the stream to be cancelled");
    });
  });
}
