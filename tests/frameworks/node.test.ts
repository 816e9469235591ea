/** Express and Fastify as they come from npm, with middleware around ours, in this process. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
// @ts-types="@types/compression"
import compression from "compression";
// @ts-types="@types/express"
import express from "express";
import fastify from "fastify";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import * as http2 from "node:http2";
import * as https from "node:https";
import type * as net from "node:net";
import { sendFile, type Sent, serveStatic } from "../../http/node.ts";
import { bytes, folder, openBelow } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { ask, assertSame } from "../support/http_client.ts";
import { until } from "../support/site.ts";

const LARGE = Buffer.from(bytes(3 * 1024 * 1024 + 1));
const TEXT = Buffer.from("some text, again and again. ".repeat(20_000));

/** A folder with files, for the time of `body`. */
async function withFiles(body: (root: string) => Promise<void>): Promise<void> {
  const root = folder();
  try {
    fs.writeFileSync(join(root, "large.bin"), LARGE);
    fs.writeFileSync(join(root, "text.txt"), TEXT);
    fs.mkdirSync(join(root, "sub"));
    fs.writeFileSync(join(root, "sub/index.html"), "<p>sub");
    await body(root);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

/** Runs `body` with an Express application on a port of its own. */
async function withExpress(
  app: express.Express,
  body: (port: number) => Promise<void>,
): Promise<void> {
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  try {
    await body((server.address() as net.AddressInfo).port);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("Express: a mounted directory redirects to its own path, and passes missing paths on", () =>
  withFiles(async (root) => {
    const app = express();
    app.use("/a/b", serveStatic(root));
    app.use("/closed", serveStatic(root, { fallthrough: false }));
    app.use((_request, response) => void response.status(418).send("another"));
    await withExpress(app, async (port) => {
      assertEquals((await ask(port, "/a/b/sub?q=1")).headers.location, "sub/?q=1");
      assertEquals((await ask(port, "/a/b")).headers.location, "b/");
      assertEquals(String((await ask(port, "/a/b/sub/")).body), "<p>sub");
      assertEquals((await ask(port, "/a/b/missing")).status, 418);
      assertEquals((await ask(port, "/a/b/%")).status, 418);
      const post = { method: "POST", fields: "Content-Length: 0\r\n" };
      assertEquals((await ask(port, "/a/b/text.txt", post)).status, 418);
      assertEquals((await ask(port, "/closed/missing")).status, 404);
      assertEquals((await ask(port, "/closed/text.txt", post)).status, 405);
    });
  }));

test("Express: a compressing middleware gets the bytes, and the head has the coding", () =>
  withFiles(async (root) => {
    const ways: string[] = [];
    const app = express();
    app.use(compression());
    app.use(serveStatic(root, { onSent: ({ way }) => ways.push(way) }));
    await withExpress(app, async (port) => {
      const response = await fetch(`http://127.0.0.1:${port}/text.txt`, {
        headers: { "Accept-Encoding": "gzip" },
      });
      assertEquals(response.headers.get("content-encoding"), "gzip");
      assertSame(Buffer.from(await response.arrayBuffer()), TEXT, "the text");
      assertSame((await ask(port, "/text.txt")).body, TEXT, "as it is");
    });
    assertEquals(ways, Array(2).fill("copy (the response is wrapped)"));
  }));

test("Express: a Vary of others and ours are both sent", () =>
  withFiles(async (root) => {
    const app = express();
    app.use((_request, response, next) => {
      response.vary("Origin");
      next();
    });
    app.use(serveStatic(root, { precompressed: true }));
    await withExpress(app, async (port) => {
      assertEquals((await ask(port, "/large.bin")).headers.vary, "Origin, Accept-Encoding");
    });
  }));

test("Express: fields that others have set stay", () =>
  withFiles(async (root) => {
    const app = express();
    app.use((_request, response, next) => {
      response.setHeader("X-Before", "yes");
      response.setHeader("Content-Type", "text/nonsense");
      response.setHeader("Content-Length", "7");
      next();
    });
    app.use(serveStatic(root));
    await withExpress(app, async (port) => {
      const { headers, body } = await ask(port, "/large.bin");
      assertEquals([headers["x-before"], headers["content-type"]], ["yes", "text/nonsense"]);
      assertEquals(headers["content-length"], String(LARGE.length));
      assertSame(body, LARGE, "the file, whose length is not what others have said");
    });
  }));

test("Express: an error in a headers function goes to the error handler", () =>
  withFiles(async (root) => {
    const app = express();
    app.use(serveStatic(root, {
      headers() {
        throw new Error("no header today");
      },
    }));
    const onError: express.ErrorRequestHandler = (error, _request, response, _next) => {
      response.status(500).send(error.message);
    };
    app.use(onError);
    await withExpress(app, async (port) => {
      for (let i = 0; i < 3; i++) {
        const { status, body } = await ask(port, "/large.bin");
        assertEquals([status, String(body)], [500, "no header today"]);
      }
      assert(openBelow(root).length === 0, "descriptors are left");
    });
  }));

test("Express: sendFile refuses a response whose head has gone", () =>
  withFiles(async (root) => {
    const app = express();
    app.get("/", async (request, response) => {
      response.write("already");
      const error = await sendFile(request, response, join(root, "text.txt")).catch((error) => error);
      response.end(` ${error}`);
    });
    await withExpress(app, async (port) => {
      const text = await (await fetch(`http://127.0.0.1:${port}/`)).text();
      assertEquals(text, "already TypeError: the head of the response has been sent already");
    });
  }));

test("Fastify: an injected request without a socket gets the file", () =>
  withFiles(async (root) => {
    const results: Sent[] = [];
    const app = fastify();
    app.get("/large", async (request, reply) => {
      reply.hijack();
      results.push(await sendFile(request.raw, reply.raw, join(root, "large.bin")));
    });
    const { statusCode, rawPayload } = await app.inject("/large");
    assertEquals(statusCode, 200);
    assertSame(rawPayload, LARGE, "the body");
    await app.close();
    assertEquals(results.length, 1);
    assertStringIncludes(results[0].way, "copy (");
  }));

const TLS = {
  cert: fs.readFileSync(join(import.meta.dirname!, "../tls/cert.pem")),
  key: fs.readFileSync(join(import.meta.dirname!, "../tls/key.pem")),
};

test("https: the file is copied, and whole", () =>
  withFiles(async (root) => {
    const ways: string[] = [];
    const server = https.createServer(TLS, serveStatic(root, { onSent: ({ way }) => ways.push(way) }));
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    try {
      const { port } = server.address() as net.AddressInfo;
      const body = await new Promise<Buffer>((resolve, reject) => {
        const options = { host: "127.0.0.1", port, path: "/large.bin", rejectUnauthorized: false };
        https.get(options, (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk) => chunks.push(chunk));
          response.on("end", () => resolve(Buffer.concat(chunks)));
        }).on("error", reject);
      });
      assertSame(body, LARGE, "the body");
      await until(() => ways.length > 0, "the server to know of it");
      assert(ways.length === 1 && ways[0].startsWith("copy ("), ways.join());
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }));

test("HTTP/2: the file is written to the response, and whole", () =>
  withFiles(async (root) => {
    const ways: string[] = [];
    const serve = serveStatic(root, { onSent: ({ way }) => ways.push(way) });
    const server = http2.createServer((request, response) => {
      serve(request as unknown as IncomingMessage, response as unknown as ServerResponse);
    });
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const session = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
    try {
      const bodies = await Promise.all([1, 2, 3].map(() =>
        new Promise<Buffer>((resolve, reject) => {
          const stream = session.request({ ":path": "/large.bin" });
          const chunks: Buffer[] = [];
          stream.on("data", (chunk) => chunks.push(Buffer.from(chunk)));
          stream.on("end", () => resolve(Buffer.concat(chunks)));
          stream.on("error", reject);
          stream.end();
        })
      ));
      for (const body of bodies) assertSame(body, LARGE, "the body");
      assertEquals(new Set(ways), new Set(["copy (the response has no socket of its own)"]));
    } finally {
      session.destroy();
      server.close();
    }
  }));
