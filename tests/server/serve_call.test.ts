/** How `serve` is called, and what it refuses. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import * as https from "node:https";
import { serve, type ServeAddr, type Server } from "../../serve.ts";
import { test } from "../support/harness.ts";
import { served, withServed } from "../support/served_twice.ts";
import { get, hello, HERE } from "./here.ts";

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
