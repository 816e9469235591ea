/** withSendfile: what handlers, middleware and the server's own compression make of a body. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { type BodyWay, serveFile } from "../../../http/mod.ts";
import { openBelow } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import { assertSame, Client, request } from "../../support/http_client.ts";
import { until } from "../../support/site.ts";
import {
  DENO,
  FIRST,
  LARGE,
  native,
  NOT_THE_FILES,
  only,
  OTHER,
  OTHER_HEAD,
  SENDFILE,
  serving,
  TEXT,
} from "../../support/with_sendfile.ts";

test(
  "a compressed body is never taken for the file, whatever random length its beginning has",
  () =>
    serving(async (place) => {
      const { getRandomValues } = crypto;
      let random = 0;
      crypto.getRandomValues = <T extends ArrayBufferView | null>(into: T) => {
        if (!(into instanceof Uint16Array)) return getRandomValues.call(crypto, into as T & Uint8Array) as T;
        into.fill(random);
        return into;
      };
      try {
        for (const coding of ["gzip", "br"]) {
          const ask = async (value: number) => {
            random = value;
            const response = await fetch(`http://127.0.0.1:${place.port}/text.txt`, {
              headers: { "Accept-Encoding": coding, "Connection": "keep-alive" },
            });
            const what = `${coding}, ${value}`;
            const body = await response.arrayBuffer().catch((error) => new TextEncoder().encode(`${error}`));
            assertSame(Buffer.from(body as ArrayBuffer), TEXT, what);
            return place.ways.at(-1)?.reason;
          };
          // Few bytes of the file are less than what compresses them adds, many are more. In between it comes out even.
          let [few, many] = [0, FIRST];
          while (many - few > 1) {
            const middle = (few + many) >> 1;
            if (await ask(middle) === OTHER_HEAD) few = middle;
            else many = middle;
          }
          for (let value = few - 4; value < few + 6; value++) await ask(value);
        }
        assertEquals(place.moved(), 0);
      } finally {
        crypto.getRandomValues = getRandomValues;
      }
    }, { listen: { automaticCompression: true } }),
  DENO,
);

for (const [coding, decompress] of [["gzip", gunzipSync], ["br", brotliDecompressSync]] as const) {
  test(`bodies that the server compresses are left to it (${coding})`, () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/text.txt", { fields: `Accept-Encoding: ${coding}\r\n` }));
      const { headers, body } = await client.reply();
      assertEquals(headers["content-encoding"], coding);
      assertSame(decompress(body), TEXT, "the text");
      client.close();
      assertEquals(place.ways.map(({ via }) => via), ["native"]);
      assertEquals(place.moved(), 0);
    }, { listen: { automaticCompression: true } }), DENO);
}

test(
  "a compressing server sends bodies that it does not compress by sendfile",
  () =>
    serving(async (place) => {
      const fields = "Accept-Encoding: gzip\r\n";
      assertSame((await only(place.port, request("/large.bin", { fields }))).body, LARGE, "the file");
      assertSame((await only(place.port, request("/text.txt"))).body, TEXT, "the text");
      assertEquals(place.ways, [SENDFILE, SENDFILE]);
    }, { listen: { automaticCompression: true } }),
  DENO,
);

test("errors of a handler are left to the server", () =>
  serving(async (place) => {
    const client = await Client.to(place.port);
    for (const path of ["/thrown", "/rejected"]) {
      client.send(request(path));
      const { status, body } = await client.reply();
      assertEquals([status, String(body)], [500, "failed"]);
    }
    client.close();
    assertEquals(place.errors.splice(0).map((error) => (error as Error).message), ["thrown", "rejected"]);
    assertEquals(place.ways, []);
  }, {
    handler: () => ({ url }) => {
      if (url.endsWith("/thrown")) throw new Error("thrown");
      return Promise.reject(new Error("rejected"));
    },
  }), DENO);

/** A middleware, and what becomes of a large file behind it. */
interface Middleware {
  readonly name: string;
  change(response: Response): Response | Promise<Response>;
  /** Whether onBody is told, and what; none where it is not a file any more. */
  readonly ways: readonly BodyWay[];
  /** In lower case; what the head has to have. */
  readonly head?: readonly string[];
  readonly status?: number;
  readonly body?: Buffer;
}

function add(...fields: [string, string][]): (response: Response) => Response {
  return (response) => {
    for (const [name, value] of fields) response.headers.append(name, value);
    return response;
  };
}

const MIDDLEWARE: readonly Middleware[] = [
  {
    name: "adds fields",
    change: add(["X-Added", "yes"], ["Server", "mine"], ["Vary", "a"], ["Vary", "b"]),
    ways: [SENDFILE],
    head: ["x-added: yes", "server: mine", "vary: a, b"],
  },
  {
    name: "makes another Response of the same body",
    change: ({ body, status, headers }) =>
      new Response(body, { status, headers: [...headers, ["x-added", "yes"]] }),
    ways: [SENDFILE],
    head: ["x-added: yes"],
  },
  {
    name: "sets two cookies",
    change: add(["Set-Cookie", "a=1; Path=/"], ["Set-Cookie", "b=2"]),
    ways: [SENDFILE],
    head: ["set-cookie: a=1; path=/", "set-cookie: b=2"],
  },
  {
    name: "adds a value beyond ASCII",
    change: add(["X-Name", "Zo\xeb \xff\x80"]),
    ways: [SENDFILE],
    head: ["x-name: zo\xeb \xff\x80"],
  },
  { name: "adds an empty value", change: add(["X-None", ""]), ways: [SENDFILE], head: ["x-none: "] },
  {
    name: "sets the date itself",
    change: add(["Date", "Sun, 06 Nov 1994 08:49:37 GMT"]),
    ways: [SENDFILE],
    head: ["date: sun, 06 nov 1994 08:49:37 gmt"],
  },
  {
    name: "sets a date of another length",
    change: add(["Date", "today"]),
    ways: [SENDFILE],
    head: ["date: today"],
  },
  { name: "asks for keep-alive", change: add(["Connection", "keep-alive"]), ways: [SENDFILE] },
  {
    name: "adds many fields",
    change: add(...Array.from({ length: 60 }, (_, i): [string, string] => [`X-${i}`, "y".repeat(100)])),
    ways: [SENDFILE],
    head: ["x-59: yyyy"],
  },
  {
    name: "deletes the length",
    change(response) {
      response.headers.delete("content-length");
      return response;
    },
    ways: [native(NOT_THE_FILES)],
  },
  {
    name: "lies about the length",
    change(response) {
      response.headers.set("content-length", `${LARGE.length}.0`);
      response.headers.delete("content-length");
      return response;
    },
    ways: [native(NOT_THE_FILES)],
  },
  {
    name: "sets a Transfer-Encoding",
    change: add(["Transfer-Encoding", "chunked"]),
    ways: [native("the response has a Transfer-Encoding")],
  },
  {
    name: "sets another status",
    change: ({ body, headers }) => new Response(body, { status: 404, headers }),
    ways: [native(NOT_THE_FILES)],
    status: 404,
  },
  {
    name: "sets another status that has a file",
    change: ({ body, headers }) => new Response(body, { status: 206, headers }),
    ways: [SENDFILE],
    status: 206,
  },
  {
    name: "deletes Accept-Ranges",
    change(response) {
      response.headers.delete("accept-ranges");
      return response;
    },
    ways: [],
  },
  {
    name: "lets the body pass through a transform",
    change: ({ body, status, headers }) =>
      new Response(body!.pipeThrough(new TransformStream()), { status, headers }),
    ways: [],
  },
  {
    name: "puts another body in its place",
    change: async (response) => {
      const { status, headers } = response;
      await response.body!.cancel();
      return new Response(OTHER, { status, headers });
    },
    ways: [],
    body: OTHER,
  },
  {
    name: "clones the response and gives the clone",
    change(response) {
      const clone = response.clone();
      response.body!.cancel();
      return clone;
    },
    ways: [],
  },
  {
    name: "clones the response and gives the response",
    change(response) {
      response.clone().body!.cancel();
      return response;
    },
    ways: [],
  },
  {
    name: "reads the body and gives what it read",
    change: async (response) => new Response(await response.arrayBuffer(), response),
    ways: [],
  },
];

for (const { name, change, ways, head = [], status = 200, body = LARGE } of MIDDLEWARE) {
  const how = ways.length > 0 && ways[0].via === "sendfile" ? "goes by sendfile" : "is the server's";
  test(`a file behind middleware that ${name} ${how}`, () =>
    serving(async (place) => {
      const client = await Client.to(place.port);
      client.send(request("/"));
      const reply = await client.reply();
      const sent = ways[0]?.via === "sendfile";
      assertEquals([reply.status, reply.headers.connection], [status, sent ? "close" : undefined]);
      if (sent) assertEquals((await client.rest()).length, 0);
      client.close();
      const text = reply.head.toLowerCase();
      for (const line of head) assertStringIncludes(text, `\r\n${line}`);
      assertSame(reply.body, body, "the body");
      assertEquals(place.ways, ways as BodyWay[]);
      assertEquals(place.moved() > 0, sent);
    }, {
      handler: (place) => async (request) => await change(await serveFile(request, place.path("large.bin"))),
    }), DENO);
}

test("a HEAD that is answered with the response of a GET gets only the head", () =>
  serving(async (place) => {
    const { status, headers } = await only(
      place.port,
      request("/", { method: "HEAD", fields: "Connection: close\r\n" }),
      true,
    );
    assertEquals([status, headers["content-length"]], [200, `${LARGE.length}`]);
    await until(() => place.completed.length > 0, "the request to be over");
    await until(() => openBelow(place.root).length === 0, "the file to be closed");
    assertEquals(place.moved(), 0);
  }, {
    handler: (place) => () => serveFile(new Request("http://localhost/"), place.path("large.bin")),
  }), DENO);
