/** How a complete response of node:http ends, whatever its client does with the connection meanwhile. */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
// @ts-types="@types/koa"
import Koa from "koa";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { createServer, type RequestListener, type Server, type ServerResponse } from "node:http";
import type * as net from "node:net";
import process from "node:process";
import { sendFile, serveStatic } from "../../../http/node.ts";
import { bytes, folder, openBelow } from "../../support/data.ts";
import { isBun, test } from "../../support/harness.ts";
import { assertSame, Client, request } from "../../support/http_client.ts";
import { until } from "../../support/site.ts";

/** Of one write, of one sendfile(2), of more than a socket takes at once. */
const SIZES = [10, 300_001, 20_000_001];

/** What a response and its request have emitted, in this order. */
type Events = string[];

/** Takes note of all that a listener's requests and responses come to. */
function watched(listener: RequestListener, all: Events[]): RequestListener {
  return (request, response) => {
    const events: Events = [];
    all.push(events);
    for (const name of ["aborted", "error"]) request.on(name, () => events.push(`request ${name}`));
    for (const name of ["finish", "error"]) response.on(name, () => events.push(name));
    response.on("close", () => events.push(`close, ${response.writableFinished ? "" : "not "}finished`));
    listener(request, response);
  };
}

const COMPLETE = ["finish", "close, finished"];

/** The different endings, and how many had each. */
function endings(all: readonly Events[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const events of all) counts[events.join()] = (counts[events.join()] ?? 0) + 1;
  return counts;
}

async function withFiles(
  listenerOf: (root: string) => RequestListener,
  body: (port: number, files: Map<number, Buffer>) => Promise<void>,
): Promise<void> {
  const root = folder();
  const files = new Map<number, Buffer>();
  for (const size of SIZES) {
    files.set(size, Buffer.from(bytes(size)));
    fs.writeFileSync(join(root, `${size}.bin`), files.get(size)!);
  }
  let server: Server | undefined;
  try {
    server = createServer(listenerOf(root));
    await new Promise<void>((resolve) => server!.listen(0, "127.0.0.1", resolve));
    await body((server.address() as net.AddressInfo).port, files);
    await until(() => openBelow(root).length === 0, "the files to be closed");
  } finally {
    server?.closeAllConnections();
    server?.close();
    fs.rmSync(root, { recursive: true });
  }
}

/** Runs `count` clients, each of which closes as soon as it has all; resolves to what they say. */
async function closingClients(port: number, path: string, count: number): Promise<string> {
  const script = fromFileUrl(new URL("../../children/closing_clients.ts", import.meta.url));
  const args = [...isBun ? [] : ["run", "-A", "--no-check"], script, String(port), path, String(count)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (text) => output += text);
  await new Promise((resolve) => child.once("close", resolve));
  return output.trim();
}

const CLIENTS = 60;

for (const size of SIZES) {
  test(`node:http: ${size} bytes end as complete where the client closes once it has them`, () => {
    const all: Events[] = [];
    return withFiles((root) => watched(serveStatic(root), all), async (port) => {
      assertEquals(await closingClients(port, `/${size}.bin`, CLIENTS), `${CLIENTS} whole`);
      await until(() => all.every((events) => events.length > 1), "the ends");
      assertEquals(endings(all), { [COMPLETE.join()]: CLIENTS });
    });
  });

  test(`node:http: ${size} bytes end as complete where the client has closed its direction with the request`, () => {
    const all: Events[] = [];
    return withFiles((root) => watched(serveStatic(root), all), async (port, files) => {
      for (const fields of ["", "Connection: close\r\n"]) {
        const client = await Client.to(port);
        client.send(request(`/${size}.bin`, { fields }));
        client.finish();
        assertSame((await client.reply()).body, files.get(size)!, "the body");
        assertEquals((await client.rest()).length, 0);
        client.close();
      }
      await until(() => all.every((events) => events.length > 1), "the ends");
      assertEquals(endings(all), { [COMPLETE.join()]: 2 });
    });
  });
}

test("node:http: each response of a connection ends as complete, pipelined or one after another, by HTTP/1.0 too", () => {
  const all: Events[] = [];
  return withFiles((root) => watched(serveStatic(root), all), async (port, files) => {
    const paths = [...SIZES, ...SIZES.toReversed()];
    const client = await Client.to(port);
    client.send(...paths.map((size) => request(`/${size}.bin`)));
    for (const size of paths) assertSame((await client.reply()).body, files.get(size)!, "a pipelined body");
    for (const size of paths) {
      client.send(request(`/${size}.bin`));
      assertSame((await client.reply()).body, files.get(size)!, "a body");
    }
    client.send(request("/10.bin", { method: "HEAD" }));
    const { etag } = (await client.reply({ bodiless: true })).headers;
    client.send(request("/10.bin", { fields: `If-None-Match: ${etag}\r\n` }), request("/missing"));
    assertEquals((await client.reply()).status, 304);
    assertEquals((await client.reply()).status, 404);
    client.send(request("/10.bin", { version: "1.0" }));
    assertSame((await client.reply()).body, files.get(10)!, "by HTTP/1.0");
    assertEquals((await client.rest()).length, 0);
    client.close();
    const count = 2 * paths.length + 4;
    await until(() => all.length === count && all.every((events) => events.length > 1), "the ends");
    assertEquals(endings(all), { [COMPLETE.join()]: count });
  });
});

test("node:http: a request whose body comes while its response is under way is read to its end", () => {
  const all: Events[] = [];
  return withFiles((root) => watched(serveStatic(root), all), async (port, files) => {
    const client = await Client.to(port);
    const upload = "x".repeat(8_000_000);
    client.send(request("/20000001.bin", { fields: `Content-Length: ${upload.length}\r\n` }), upload);
    client.send(request("/10.bin"));
    assertSame((await client.reply()).body, files.get(20_000_001)!, "the body");
    assertSame((await client.reply()).body, files.get(10)!, "the next body");
    client.close();
    await until(() => all.length === 2 && all.every((events) => events.length > 1), "the ends");
    assertEquals(endings(all), { [COMPLETE.join()]: 2 });
  });
});

test("node:http: a response whose client resets in the middle does not end as complete", () => {
  const all: Events[] = [];
  return withFiles((root) => watched(serveStatic(root), all), async (port) => {
    const client = await Client.to(port);
    client.send(request("/20000001.bin"));
    await client.begun();
    client.socket.resetAndDestroy();
    await until(() => all[0].includes("close, not finished"), "the end");
    assert(!all[0].includes("finish"), all[0].join());
    assert(all[0].includes("request aborted"), all[0].join());
  });
});

test("Koa: nothing is logged of clients that close once they have all, nor of those that close their direction", () => {
  const errors: unknown[] = [];
  const app = new Koa();
  app.on("error", (error) => errors.push(error));
  let done = 0;
  return withFiles((root) => {
    app.use(async (ctx) => {
      ctx.respond = false;
      await sendFile(ctx.req, ctx.res, join(root, ctx.path));
      done++;
    });
    return app.callback();
  }, async (port, files) => {
    for (const size of SIZES) {
      assertEquals(await closingClients(port, `/${size}.bin`, CLIENTS), `${CLIENTS} whole`);
      const client = await Client.to(port);
      client.send(request(`/${size}.bin`));
      client.finish();
      assertSame((await client.reply()).body, files.get(size)!, "the body");
      await client.rest();
      client.close();
    }
    await until(() => done === SIZES.length * (CLIENTS + 1), "the responses to end");
    assertEquals(errors, []);
  });
});

/** What a middleware before has made of a response, such that `serveStatic` meets an error when it sends a file. */
const BROKEN: Record<string, (response: ServerResponse) => void> = {
  "flushHeaders throws": (response) => {
    response.flushHeaders = fail;
    // Not the state in which a head is taken: flushHeaders is to be called.
    Object.defineProperty(response, "_headerSent", { get: () => true, set() {} });
  },
  "end throws": (response) => {
    response.end = fail;
  },
  "head has been sent": (response) => {
    response.setHeader("ETag", '"another"');
    response.flushHeaders();
  },
};

function fail(): never {
  throw new Error("another's");
}

for (const [what, breakIt] of Object.entries(BROKEN)) {
  test(`node:http: where a response's ${what} the error is passed on, and the connection's end is seen`, () => {
    const errors: Error[] = [];
    let ended = false;
    const listener = (root: string): RequestListener => {
      const serve = serveStatic(root);
      return (request, response) => {
        request.socket.once("close", () => ended = true);
        breakIt(response);
        serve(request, response, (error) => errors.push(error as Error));
      };
    };
    return withFiles(listener, async (port) => {
      const client = await Client.to(port);
      client.send(request("/300001.bin"));
      await until(() => errors.length > 0, "the error");
      assertEquals(errors.length, 1);
      if (what === "head has been sent") {
        assertEquals((errors[0] as { code?: string }).code, "ERR_HTTP_HEADERS_SENT");
      } else assertEquals(errors[0].message, "another's");
      client.close();
      await until(() => ended, "the end of the connection");
    });
  });
}
