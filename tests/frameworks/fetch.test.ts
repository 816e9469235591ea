/** Hono, h3 and srvx in this process, on Deno.serve and on Bun.serve, with withSendfile and without. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { H3 } from "h3";
import { Hono } from "hono";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import * as https from "node:https";
import { gunzipSync } from "node:zlib";
import { serve, type Server, type ServerMiddleware, type ServerOptions } from "srvx";
import { type BodyWay, serveDir, withSendfile } from "../../http/mod.ts";
import { sendfileStats, whyNotSendfile } from "../../mod.ts";
import { bytes } from "../support/data.ts";
import { inDirectory } from "../support/each_server.ts";
import { isBun, test } from "../support/harness.ts";
import { ask, assertSame } from "../support/http_client.ts";

const LARGE = Buffer.from(bytes(3 * 1024 * 1024 + 1));
const TEXT = Buffer.from("some text, again and again. ".repeat(100_000));
const SKIP = { skip: isBun ? undefined : whyNotSendfile() };

/** How a file's body goes where nothing is against it: past the server on Deno, by Bun.serve's own sendfile(2) on Bun. */
const FAST: BodyWay = { via: isBun ? "native" : "sendfile" };

interface Place {
  readonly port: number;
  /** What onBody was told. */
  readonly ways: BodyWay[];
}

type Files = (request: Request, fallthrough?: () => Response | Promise<Response>) => Promise<Response>;

/** Runs `body` with a server of srvx. `options`: made with what serves the files, and withSendfile's options. */
function serving(
  options: (files: Files, onBody: { onBody: (way: BodyWay) => void }) => Partial<ServerOptions>,
  body: (place: Place) => Promise<void>,
): Promise<void> {
  return inDirectory(async (root) => {
    fs.writeFileSync(join(root, "large.bin"), LARGE);
    fs.writeFileSync(join(root, "text.txt"), TEXT);
    const ways: BodyWay[] = [];
    const files: Files = (request, fallthrough) =>
      serveDir(request, { fsRoot: root, quiet: true, fallthrough });
    const server: Server = serve({
      hostname: "127.0.0.1",
      port: 0,
      silent: true,
      gracefulShutdown: false,
      fetch: () => new Response("another"),
      ...options(files, { onBody: (way) => ways.push(way) }),
    });
    try {
      await server.ready();
      await body({ port: Number(new URL(server.url!).port), ways });
    } finally {
      await server.close(true);
    }
  });
}

/** Asks for the file, a range of it, and for what is not there. */
async function assertServed({ port }: Place): Promise<void> {
  assertSame((await ask(port, "/large.bin")).body, LARGE, "the file");
  const part = await ask(port, "/large.bin", { fields: "Range: bytes=9-2500000\r\n" });
  assertEquals(part.status, 206);
  assertSame(part.body, LARGE.subarray(9, 2_500_001), "the range");
  assertEquals(String((await ask(port, "/missing")).body), "another");
}

function honoOf(files: Files): Hono {
  const app = new Hono();
  app.use((c, next) =>
    files(c.req.raw, async () => {
      await next();
      return c.res;
    })
  );
  app.all("/*", (c) => c.text("another"));
  return app;
}

test(
  "Hono: files by withSendfile, and missing paths by its own routes",
  () =>
    serving((files, onBody) => {
      const app = honoOf(files);
      return { fetch: withSendfile((request) => app.fetch(request), onBody) };
    }, async (place) => {
      await assertServed(place);
      assertEquals(place.ways, [FAST, FAST]);
    }),
  SKIP,
);

test("Hono: files without withSendfile, and missing paths by its own routes", () =>
  serving((files) => ({ fetch: (request) => honoOf(files).fetch(request) }), async (place) => {
    const before = sendfileStats();
    await assertServed(place);
    assertEquals(sendfileStats(), before);
  }));

test(
  "h3: files by withSendfile, with a field that a handler has set before",
  () =>
    serving((files, onBody) => {
      const app = new H3();
      app.use((event, next) => {
        event.res.headers.set("X-Own", "yes");
        return next();
      });
      app.use(async (event, next) => {
        const response = await files(event.req);
        return response.status === 404 ? next() : response;
      });
      app.get("/**", () => "another");
      return { fetch: withSendfile((request) => app.fetch(request), onBody) };
    }, async (place) => {
      assertEquals((await ask(place.port, "/large.bin")).headers["x-own"], "yes");
      await assertServed(place);
      assertEquals(place.ways, [FAST, FAST, FAST]);
    }),
  SKIP,
);

test("srvx: withSendfile as its handler finds the connection on the request", () =>
  serving(
    (files, onBody) => ({
      fetch: withSendfile((request) => files(request, () => new Response("another")), onBody),
    }),
    async (place) => {
      await assertServed(place);
      assertEquals(place.ways, [FAST, FAST]);
    },
  ), SKIP);

/** withSendfile as srvx's first middleware: its second argument is no connection. */
const outermost = (onBody: { onBody: (way: BodyWay) => void }): ServerMiddleware =>
  withSendfile((_request, next: () => Response | Promise<Response>) => next(), onBody);

test("srvx: withSendfile as its first middleware finds the connection on the request", () =>
  serving(
    (files, onBody) => ({ middleware: [outermost(onBody), (request, next) => files(request, next)] }),
    async (place) => {
      await assertServed(place);
      assertEquals(place.ways, [FAST, FAST]);
    },
  ), SKIP);

test("srvx: middleware inside withSendfile that compresses has its own bytes sent", () =>
  serving((files, onBody) => ({
    middleware: [outermost(onBody), async (request, next) => {
      const response = await files(request, next);
      const headers = new Headers(response.headers);
      headers.set("Content-Encoding", "gzip");
      headers.delete("Content-Length");
      return new Response(response.body!.pipeThrough(new CompressionStream("gzip")), { headers });
    }],
  }), async ({ port, ways }) => {
    const { headers, body } = await ask(port, "/text.txt");
    assertEquals(headers["content-encoding"], "gzip");
    assertSame(gunzipSync(body), TEXT, "the text");
    assertEquals(ways, []);
  }));

test("srvx: the scheme that a trusted proxy says is not taken for TLS", () =>
  serving((files, onBody) => ({
    trustProxy: true,
    middleware: [outermost(onBody), async (request, next) => {
      const response = await files(request, next);
      response.headers.set("X-Scheme", new URL(request.url).protocol);
      return response;
    }],
  }), async ({ port, ways }) => {
    const proxied = { fields: "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n" };
    const { headers, body } = await ask(port, "/large.bin", proxied);
    assertEquals(headers["x-scheme"], "https:");
    assertSame(body, LARGE, "the file");
    assertEquals(ways, [FAST]);
  }), SKIP);

test("srvx: TLS is known as such", () =>
  serving((files, onBody) => ({
    tls: {
      cert: fs.readFileSync(join(import.meta.dirname!, "../tls/cert.pem"), "utf8"),
      key: fs.readFileSync(join(import.meta.dirname!, "../tls/key.pem"), "utf8"),
    },
    protocol: "https",
    fetch: withSendfile((request) => files(request), onBody),
  }), async ({ port, ways }) => {
    const body = await new Promise<Buffer>((resolve, reject) => {
      https.get(
        { host: "127.0.0.1", port, path: "/large.bin", rejectUnauthorized: false, agent: false },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk) => chunks.push(chunk));
          response.on("end", () => resolve(Buffer.concat(chunks)));
        },
      ).on("error", reject);
    });
    assertSame(body, LARGE, "the file");
    assertEquals(ways, [{ via: "native", reason: "TLS", code: "tls" }]);
  }), SKIP);
