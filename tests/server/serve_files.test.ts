/** Files of `serveFile` and `serveDir` under `serve`: their bytes, their way, and who closes them. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Hono } from "hono";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { serveDir, serveFile, withSendfile } from "../../http/mod.ts";
import { sendfileStats } from "../../mod.ts";
import type { ServeHandler } from "../../serve.ts";
import { bytes, folder, openBelow } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { ask, assertSame, Client, parseMultipart, request } from "../support/http_client.ts";
import { onlyBy } from "../support/helpers.ts";
import { assertSameUnderBoth, exchange, served, withServed } from "../support/served_twice.ts";
import { until } from "../support/site.ts";

const only = "deno";
const SIZES = [1, 4096, 16_384, 65_537, 1_048_579, 20_000_003];
const files = new Map(SIZES.map((size) => [`${size}.bin`, Buffer.from(bytes(size))]));

/** Runs `body` with a folder of files, all of which must be closed in the end. */
async function withFiles(body: (root: string) => Promise<void>): Promise<void> {
  const root = fs.realpathSync(folder());
  try {
    for (const [name, content] of files) fs.writeFileSync(join(root, name), content);
    fs.writeFileSync(join(root, "empty.txt"), "");
    fs.writeFileSync(join(root, "a.txt"), "this is a");
    await body(root);
    await until(() => openBelow(root).length === 0, "the files to be closed");
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

test(
  "serve sends files of every size by sendfile(2), one after the other on one connection",
  () =>
    withFiles(async (root) => {
      await withServed(
        served((request) => serveDir(request, { fsRoot: root, quiet: true })),
        async ({ port }) => {
          const client = await Client.to(port);
          await onlyBy("sendfile", async () => {
            for (const [name, content] of files) {
              client.send(request(`/${name}`));
              const { status, body } = await client.reply();
              assertEquals(status, 200);
              assertSame(body, content, name);
            }
          });
          client.send(...[...files.keys()].map((name) => request(`/${name}`)));
          for (const [name, content] of files) assertSame((await client.reply()).body, content, name);
          client.close();
        },
      );
    }),
  { only },
);

test("serve sends files as serveDir means them: ranges, parts, HEAD, 304, redirects", () =>
  withFiles(async (root) => {
    const handler: ServeHandler = (request) => serveDir(request, { fsRoot: root, quiet: true });
    await withServed(served(handler), async ({ port }) => {
      const content = files.get("1048579.bin")!;
      const target = "/1048579.bin";
      const part = await ask(port, target, { fields: "Range: bytes=1000-999999\r\n" });
      assertEquals([part.status, part.headers["content-range"]], [206, "bytes 1000-999999/1048579"]);
      assertSame(part.body, content.subarray(1000, 1_000_000), "the range");
      const several = await ask(port, target, { fields: "Range: bytes=0-99999,200000-500000\r\n" });
      const parts = parseMultipart(several.headers["content-type"], several.body);
      assertSame(parts[1].body, content.subarray(200_000, 500_001), "the second part");
      const head = await ask(port, target, { method: "HEAD" });
      assertEquals([head.status, head.headers["content-length"]], [200, "1048579"]);
      const cached = await ask(port, target, { fields: `If-None-Match: ${head.headers.etag}\r\n` });
      assertEquals([cached.status, cached.headers["content-length"]], [304, undefined]);
      assertEquals((await ask(port, "/missing")).status, 404);
      assertEquals((await ask(port, "/empty.txt")).body.length, 0);
      assertEquals((await ask(port, "/a.txt/")).status, 301);
      assertEquals((await ask(port, "/%2e%2e/secret")).status, 404);
    });
  }));

test("serve and Deno.serve send the same for a file", () =>
  withFiles(async (root) => {
    const handler: ServeHandler = (request) => serveDir(request, { fsRoot: root, quiet: true });
    for (const target of ["/a.txt", "/65537.bin", "/1048579.bin", "/empty.txt", "/missing", "/a.txt/"]) {
      for (const method of ["GET", "HEAD", "OPTIONS", "POST"]) {
        for (const fields of ["", "Range: bytes=1-5\r\n", "If-None-Match: *\r\n"]) {
          const text = request(target, { method, fields: `Connection: close\r\n${fields}` });
          await assertSameUnderBoth(handler, ({ port }) => exchange(port, text, { methods: [method] }));
        }
      }
    }
  }), { only });

/** What middleware does to a file's response, the way it then takes, and its bytes. */
const MIDDLEWARE: Record<string, {
  way: "sendfile" | "stream";
  change: (response: Response, request: Request) => Response | Promise<Response>;
  body?: (content: Buffer) => Buffer;
}> = {
  "leaves it alone": { way: "sendfile", change: (response) => response },
  "adds a field": {
    way: "sendfile",
    change: (response) => {
      response.headers.set("X-Added", "yes");
      return response;
    },
  },
  "makes a new response of the same body": {
    way: "sendfile",
    change: (response) => new Response(response.body, response),
  },
  "looks at everything": {
    way: "sendfile",
    change: (response) => {
      void [response.status, response.ok, response.bodyUsed, [...response.headers], response.body!.locked];
      return response;
    },
  },
  "changes the status": {
    way: "sendfile",
    change: (response) => new Response(response.body, { status: 404, headers: response.headers }),
  },
  "takes the length off": {
    way: "sendfile",
    change: (response) => {
      response.headers.delete("content-length");
      return response;
    },
  },
  "reads it and answers with that": {
    way: "stream",
    change: async (response) => new Response(await response.bytes()),
  },
  "clones it and reads the clone": {
    way: "stream",
    change: async (response) => {
      const clone = response.clone();
      await clone.bytes();
      return response;
    },
  },
  "sends it through a transform": {
    way: "stream",
    change: (response) =>
      new Response(
        response.body!.pipeThrough(
          new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
            transform: (chunk, controller) => controller.enqueue(chunk.map((byte) => 255 - byte)),
          }),
        ),
      ),
    body: (content) => Buffer.from(content.map((byte) => 255 - byte)),
  },
  "answers with another one": {
    way: "stream",
    change: () => new Response("another"),
    body: () => Buffer.from("another"),
  },
  "cancels it": {
    way: "stream",
    change: async (response) => {
      await response.body!.cancel();
      return new Response("cancelled");
    },
    body: () => Buffer.from("cancelled"),
  },
  "throws": {
    way: "stream",
    change: () => {
      throw new Error("after the file was opened");
    },
    body: () => Buffer.from("failed"),
  },
  "calls with a copy of the request": {
    way: "sendfile",
    change: async (response, request) => {
      await response.body!.cancel();
      return await serveFile(new Request(request), wanted);
    },
  },
};

let wanted = "";

for (const [what, { way, change, body = (content: Buffer) => content }] of Object.entries(MIDDLEWARE)) {
  test(`serve sends what is left of a file where middleware ${what}`, () =>
    withFiles(async (root) => {
      for (const [name, content] of files) {
        wanted = join(root, name);
        const handler: ServeHandler = async (request) =>
          await change(await serveFile(request, wanted), request);
        const onError = () => new Response("failed", { status: 500 });
        await withServed(served(handler, { onError }), async ({ port }) => {
          const before = sendfileStats().sendfile.transfers;
          const client = await Client.to(port);
          for (let i = 0; i < 2; i++) {
            client.send(request(`/${name}`));
            assertSame((await client.reply()).body, body(content), `${name}, time ${i + 1}`);
          }
          client.close();
          // Without a server's word for it, bodies up to 16 KiB are read at once.
          const isRead = what.includes("copy of the request") && content.length <= 16_384;
          const sent = way === "sendfile" && !isRead ? 2 : 0;
          assertEquals(sendfileStats().sendfile.transfers - before, sent, name);
        });
      }
    }), { only });
}

test("serve trusts no length that is not the file's", () =>
  withFiles(async (root) => {
    for (const length of ["5", "2000000"]) {
      const handler: ServeHandler = async (request) => {
        const response = await serveFile(request, join(root, "1048579.bin"));
        response.headers.set("Content-Length", length);
        return response;
      };
      const text = request("/", { fields: "Connection: close\r\n" });
      const [{ whole, body }] = await withServed(
        served(handler, { onError: () => new Response("x") }),
        ({ port }) => exchange(port, text),
      );
      assertEquals([body.length, whole], length === "5" ? [5, true] : [1_048_579, false]);
    }
  }), { only });

test("serve refuses a response whose file it has sent before", () =>
  withFiles(async (root) => {
    let response: Promise<Response> | undefined;
    const handler: ServeHandler = (request) => response ??= serveFile(request, join(root, "65537.bin"));
    const onError = () => new Response("used", { status: 500 });
    await withServed(served(handler, { onError }), async ({ port }) => {
      assertSame((await ask(port, "/")).body, files.get("65537.bin")!, "the file");
      const { status, body } = await ask(port, "/");
      assertEquals([status, String(body)], [500, "used"]);
    });
  }), { only });

test("serve writes no line end around a field's value", () =>
  withFiles(async (root) => {
    const values = ["\r\nSet-Cookie: evil=1", "\r\n\r\n<script>", "abc\n", "\t abc \r\n"];
    for (const value of values) {
      const handler: ServeHandler = (request) =>
        serveFile(request, join(root, "a.txt"), {
          headers: () => ({ "X-Own": value }),
          cacheControl: "no-cache\n",
        });
      const text = request("/", { fields: "Connection: close\r\n" });
      await assertSameUnderBoth(handler, ({ port }) => exchange(port, text));
      await withServed(served(handler), async ({ port }) => {
        const { head, body } = await ask(port, "/");
        assertEquals(String(body), "this is a");
        const lines = head.toLowerCase().split("\r\n");
        assert(lines.includes(`x-own: ${value.trim().toLowerCase()}`), head);
        assert(lines.includes("cache-control: no-cache"), head);
      });
    }
  }), { only });

test("serve ends the connection where a file becomes shorter under it", () =>
  withFiles(async (root) => {
    const path = join(root, "20000003.bin");
    await withServed(served((request) => serveFile(request, path)), async ({ port }) => {
      const client = await Client.to(port);
      client.send(request("/"));
      await client.begun();
      fs.truncateSync(path, 10);
      client.socket.resume();
      assert((await client.rest()).length < 20_000_003);
      client.close();
    });
  }), { only });

test("serve closes the file where the client leaves in the middle", () =>
  withFiles(async (root) => {
    await withServed(
      served((request) => serveFile(request, join(root, "20000003.bin"))),
      async ({ port }) => {
        for (let i = 0; i < 5; i++) {
          const client = await Client.to(port);
          client.send(request("/"));
          await client.begun();
          client.socket.resetAndDestroy();
        }
        await until(() => openBelow(root).length === 0, "the files to be closed");
      },
    );
  }));

test(
  "serve closes the file of a handler that answers when its client has left",
  () =>
    withFiles(async (root) => {
      let go = () => {};
      let begun = false;
      let held = 0;
      const handler: ServeHandler = async (request) => {
        const response = await serveFile(request, join(root, "1048579.bin"));
        held = openBelow(root).length;
        begun = true;
        await new Promise<void>((resolve) => request.signal.onabort = () => setTimeout(resolve, 1));
        go();
        return response;
      };
      await withServed(served(handler), async ({ port }) => {
        const answered = new Promise<void>((resolve) => go = resolve);
        const client = await Client.to(port);
        client.send(request("/"));
        await until(() => begun, "the handler");
        assertEquals(held, 1);
        client.socket.resetAndDestroy();
        await answered;
        await until(() => openBelow(root).length === 0, "the file to be closed");
      });
    }),
  { only },
);

test("serve keeps to the rate limit of a file", () =>
  withFiles(async (root) => {
    const handler: ServeHandler = (request) =>
      serveFile(request, join(root, "65537.bin"), { rateLimit: 131_072 });
    await withServed(served(handler), async ({ port }) => {
      const began = performance.now();
      assertSame((await ask(port, "/")).body, files.get("65537.bin")!, "the body");
      assert(performance.now() - began > 350);
    });
  }), { only });

test(
  "withSendfile leaves the files of a handler to serve, on both of its ways",
  () =>
    withFiles(async (root) => {
      const ways: unknown[] = [];
      const handler = withSendfile<{ remoteAddr: unknown }>(
        (request) => serveFile(new Request(request.url), join(root, "20000003.bin")),
        { threshold: 0, onBody: (way) => ways.push(way) },
      );
      await withServed(served(handler as ServeHandler), async ({ port }) => {
        const client = await Client.to(port);
        for (const method of ["GET", "POST", "GET"]) {
          client.send(request("/", { method, fields: "Content-Length: 0\r\n" }));
          assertSame((await client.reply()).body, files.get("20000003.bin")!, method);
        }
        client.close();
        assertEquals(ways, []);
      });
    }),
  { only },
);

test("Hono's responses keep their file under serve, with the fields of its middleware", () =>
  withFiles(async (root) => {
    const app = new Hono();
    app.use(async (c, next) => {
      await next();
      c.header("X-Content-Type-Options", "nosniff");
    });
    app.get("/files/*", (c) => serveDir(c.req.raw, { fsRoot: root, urlRoot: "files", quiet: true }));
    app.post("/echo", async (c) => c.text(await c.req.text()));
    app.get("/", (c) => c.text(`hello ${c.req.query("name")}`));
    await withServed(served(app.fetch as ServeHandler), async ({ port }) => {
      const client = await Client.to(port);
      client.send(request("/?name=you"));
      assertEquals(String((await client.reply()).body), "hello you");
      const before = sendfileStats().sendfile.transfers;
      client.send(request("/files/1048579.bin"));
      const { headers, body } = await client.reply();
      assertEquals(headers["x-content-type-options"], "nosniff");
      assertSame(body, files.get("1048579.bin")!, "the file");
      if (!isBun) assertEquals(sendfileStats().sendfile.transfers - before, 1);
      client.send(request("/echo", { method: "POST", fields: "Content-Length: 5\r\n" }), "hello");
      assertEquals(String((await client.reply()).body), "hello");
      assertEquals((await ask(port, "/missing")).status, 404);
      client.close();
    });
  }));
