/** The same handler gives the same bytes under `serve` and under `Deno.serve`. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import type { ServeHandler } from "../../serve.ts";
import { canBeLazy } from "../../server/lazy_request.ts";
import { readsInside } from "../../server/response_parts.ts";
import { bytes } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { Client } from "../support/http_client.ts";
import { assertSameUnderBoth, exchange, served, withServed } from "../support/served_twice.ts";
import { until } from "../support/site.ts";

const only = "deno";
const utf8 = new TextEncoder();

test("serve knows the insides of this Deno's Request and Response", () => {
  assert(canBeLazy());
  assert(readsInside);
}, { only });

function streamOf(...chunks: (string | Uint8Array)[]): ReadableStream<Uint8Array> {
  const left = chunks.map((chunk) => typeof chunk === "string" ? utf8.encode(chunk) : chunk);
  return new ReadableStream({
    pull(controller) {
      const chunk = left.shift();
      if (chunk) controller.enqueue(chunk);
      else controller.close();
    },
  });
}

const BINARY = Buffer.from(bytes(300_001));

const RESPONSES: Record<string, () => Response | Promise<Response>> = {
  text: () => new Response("hi"),
  "a text with umlauts": () => new Response("grüße, 你好"),
  "an empty text": () => new Response(""),
  "no body": () => new Response(null),
  "nothing at all": () => new Response(),
  bytes: () => new Response(BINARY),
  "an ArrayBuffer": () => new Response(new Uint8Array([1, 2, 3]).buffer),
  "a DataView": () => new Response(new DataView(new ArrayBuffer(4), 1, 2)),
  "a large text": () => new Response("0123456789".repeat(50_000)),
  JSON: () => Response.json({ a: [1, "ü"] }),
  "JSON with a status": () => Response.json({ a: 1 }, { status: 422, headers: { "X-A": "b" } }),
  "a type": () => new Response("<p>", { headers: { "Content-Type": "text/html; charset=utf-8" } }),
  "another status": () => new Response("no", { status: 404, statusText: "Nothing Here" }),
  "a status without a name": () => new Response("x", { status: 299 }),
  "a redirect": () => Response.redirect("http://test/elsewhere", 303),
  "204": () => new Response(null, { status: 204, headers: { "x-a": "b" } }),
  "304": () => new Response(null, { status: 304, headers: { etag: '"x"', "content-length": "10" } }),
  "Set-Cookie several times": () => {
    const response = new Response("c");
    response.headers.append("Set-Cookie", "a=1; Path=/");
    response.headers.append("set-cookie", "b=2, 3");
    response.headers.append("X-Several", "1");
    response.headers.append("x-several", "2");
    return response;
  },
  "a field in Latin-1": () => new Response("x", { headers: { "x-name": "caf\u00e9" } }),
  "a date of its own": () => new Response("x", { headers: { date: "Sun, 06 Nov 1994 08:49:37 GMT" } }),
  "a Content-Length that is wrong": () => new Response("hi", { headers: { "content-length": "30" } }),
  "a stream": () => new Response(streamOf("one", "two", BINARY, "three")),
  "a stream of nothing": () => new Response(streamOf()),
  "a stream with empty chunks": () => new Response(streamOf("", "a", "", "b", "")),
  "a stream with a length": () =>
    new Response(streamOf("one", "two"), { headers: { "Content-Length": "6" } }),
  "a stream longer than its length": () =>
    new Response(streamOf("one", "two"), { headers: { "Content-Length": "4" } }),
  "a stream shorter than its length": () =>
    new Response(streamOf("one"), { headers: { "Content-Length": "40" } }),
  "a Blob": () => new Response(new Blob(["blob"], { type: "text/x-blob" })),
  "a search": () => new Response(new URLSearchParams({ a: "b c" })),
  "another's body": () => new Response(new Response("from another").body, { headers: { "x-a": "b" } }),
  "a clone": () => new Response("cloned").clone(),
  "a promise": () => Promise.resolve(new Response("later")),
  "a stream that fails": () =>
    new Response(
      new ReadableStream({
        start: (controller) => controller.enqueue(utf8.encode("one")),
        async pull(controller) {
          await Promise.resolve();
          controller.error(new Error("the stream failed"));
        },
      }),
    ),
  "a stream of text": () =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue("no bytes" as unknown as Uint8Array);
          controller.close();
        },
      }),
    ),
  "an error that is thrown": () => {
    throw new Error("thrown");
  },
  "a rejection": () => Promise.reject(new Error("rejected")),
  "no response": () => "text" as unknown as Response,
  "undefined": () => undefined as unknown as Response,
  "Response.error()": () => Response.error(),
  "a used response": async () => {
    const response = new Response("used");
    await response.text();
    return response;
  },
  "a locked response": () => {
    const response = new Response(streamOf("locked"));
    response.body!.getReader();
    return response;
  },
};

const onError = (error: unknown) => new Response(`failed: ${(error as Error).message}`, { status: 500 });

/** What is asked for stands in the query. */
const answer: ServeHandler = (request) =>
  RESPONSES[decodeURIComponent(new URL(request.url).search.slice(1))]();

function ask(
  name: string,
  { method = "GET", version = "1.1", fields = "Connection: close\r\n" } = {},
): string {
  const target = `/?${encodeURIComponent(name)}`;
  return `${method} ${target} HTTP/${version}\r\nHost: test\r\n${fields}\r\n`;
}

for (const name of Object.keys(RESPONSES)) {
  test(`serve and Deno.serve send the same for ${name}`, async () => {
    for (const method of ["GET", "HEAD"]) {
      for (const version of ["1.1", "1.0"]) {
        await assertSameUnderBoth(
          answer,
          ({ port }) => exchange(port, ask(name, { method, version }), { methods: [method] }),
          { onError },
        );
      }
    }
  }, { only });
}

test("serve gives one Response once, as Deno.serve does", async () => {
  const response = new Response("again");
  const [first, second] = await withServed(served(() => response, { onError }), async ({ port }) => [
    ...await exchange(port, ask("text")),
    ...await exchange(port, ask("text")),
  ]);
  assertEquals([first.body, second.line], ["again", "HTTP/1.1 500 Internal Server Error"]);
}, { only });

for (const name of ["a stream shorter than its length", "a stream that fails", "a stream of text"]) {
  test(`serve and Deno.serve end the connection behind ${name}`, async () => {
    const request = ask(name, { fields: "" }) + ask("text", { fields: "" });
    const messages = await assertSameUnderBoth(answer, ({ port }) => exchange(port, request), { onError });
    assertEquals(messages.map(({ whole }) => whole), [false]);
  }, { only });
}

test("serve goes on with a connection behind every kind of body", async () => {
  const names = Object.keys(RESPONSES).filter((name) => !/fails|shorter|of text$/.test(name));
  const request = names.map((name) => ask(name, { fields: "" })).join("") + ask("text");
  const messages = await assertSameUnderBoth(answer, ({ port }) => exchange(port, request), { onError });
  assertEquals(messages.length, names.length + 1);
}, { only });

test("serve goes on with HTTP/1.0 where it is asked to and the length is known", async () => {
  const keep = "Connection: keep-alive\r\n";
  const request = ask("text", { version: "1.0", fields: keep }) +
    ask("bytes", { version: "1.0", fields: keep }) +
    ask("a stream", { version: "1.0", fields: keep }) + ask("text", { version: "1.0" });
  const messages = await assertSameUnderBoth(answer, ({ port }) => exchange(port, request), { onError });
  assertEquals(messages.length, 3);
}, { only });

/** All that a handler can see of a request. */
const describe: ServeHandler = async (request, { remoteAddr }) => {
  const copy = new Request(request, { headers: { ...Object.fromEntries(request.headers), added: "yes" } });
  return Response.json({
    method: request.method,
    url: request.url,
    fields: [...request.headers],
    missing: [request.headers.get("X-Missing"), request.headers.has("x-missing")],
    some: [request.headers.get("X-SOME"), request.headers.has("X-Some"), request.headers.get("cookie")],
    is: [request instanceof Request, request.headers instanceof Headers, request.constructor === Request],
    text: String(request),
    body: [request.body === null, request.bodyUsed, request.mode, request.credentials],
    copy: [copy.method, copy.url, copy.headers.get("added"), copy.headers.get("x-some")],
    clone: [request.clone().method, request.clone().headers.get("x-some"), request.clone().url],
    signal: [request.signal.aborted, request.signal === request.signal],
    errors: [
      attempt(() => request.headers.set("a", "b")),
      attempt(() => request.headers.get("no name")),
      attempt(() => (request.headers.get as unknown as () => void)()),
    ],
    read: await request.text(),
    client: [remoteAddr.transport, remoteAddr.hostname],
  });
};

function attempt(work: () => unknown): string {
  try {
    return `gave ${work()}`;
  } catch (error) {
    return (error as Error).name;
  }
}

const SEEN: Record<string, string> = {
  "plain": "GET /a/b?c=d HTTP/1.1\r\nHost: Example.com:80\r\nX-Some: one\r\nx-some: two\r\nX-Empty:\r\n",
  "cookies": "GET / HTTP/1.1\r\nHost: test\r\nCookie: a=1\r\nCookie: b=2\r\n",
  "an absolute target": "GET http://other.example:8080/x?y HTTP/1.1\r\nHost: test\r\n",
  "HEAD": "HEAD /x HTTP/1.1\r\nHost: test\r\n",
  "Latin-1": "GET / HTTP/1.1\r\nHost: test\r\nX-Some: caf\u00e9\r\n",
  "IPv6": "GET / HTTP/1.1\r\nHost: [::1]:8000\r\n",
  "spaces around values": "GET / HTTP/1.1\r\nHost: test\r\nX-Some: \t a b \t\r\n",
  "Content-Length: 0": "GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n",
};

for (const [what, head] of Object.entries(SEEN)) {
  test(`serve shows a handler the same request as Deno.serve: ${what}`, async () => {
    const [method] = head.split(" ");
    const [message] = await assertSameUnderBoth(
      describe,
      ({ port }) => exchange(port, `${head}Connection: close\r\n\r\n`, { methods: [method] }),
    );
    assertEquals(message.line, "HTTP/1.1 200 OK");
  }, { only });
}

test("serve names itself in the URL where a request names no host", async () => {
  const url: ServeHandler = ({ url }) => new Response(url);
  await withServed(served(url), async ({ port }) => {
    const expected = `http://localhost:${port}/x`;
    assertEquals((await exchange(port, "GET /x HTTP/1.0\r\n\r\n"))[0].body, expected);
    assertEquals(
      (await exchange(port, "GET /x HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n"))[0].body,
      expected,
    );
  });
}, { only });

test("serve refuses a target that is neither a path nor a URL", async () => {
  const never: ServeHandler = () => new Response("never");
  for (const target of ["x", "*", "test:80", "http://", "ftp://test/"]) {
    const request = `GET ${target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n`;
    const [{ line }] = await withServed(served(never), ({ port }) => exchange(port, request));
    assertEquals(line, "HTTP/1.1 400 Bad Request", target);
  }
}, { only });

test(
  "a half-closed client still gets streams and texts of serve",
  () =>
    withServed(served(answer), async ({ port }) => {
      for (const name of ["text", "a stream", "bytes", "a promise"]) {
        const request = ask(name, { fields: "" });
        const [message] = await exchange(port, request, { half: true });
        assertEquals([message.line, message.whole], ["HTTP/1.1 200 OK", true], name);
      }
    }),
  { only },
);

test("serve sends the head before the first chunk is there, and each chunk as it comes", async () => {
  let give: (text: string | undefined) => void = () => {};
  const slow: ServeHandler = () =>
    new Response(
      new ReadableStream({
        start: (controller) => {
          give = (text) => text === undefined ? controller.close() : controller.enqueue(utf8.encode(text));
        },
      }),
    );
  await withServed(served(slow), async ({ port }) => {
    const client = await Client.to(port);
    let came = "";
    client.socket.on("data", (chunk) => came += chunk);
    client.send(ask("x", { fields: "" }));
    await until(() => came.endsWith("\r\n\r\n"), "the head");
    give("one");
    await until(() => came.endsWith("3\r\none\r\n"), "the first chunk");
    give("two");
    await until(() => came.endsWith("3\r\ntwo\r\n"), "the second");
    give(undefined);
    await until(() => came.endsWith("0\r\n\r\n"), "the end");
    client.close();
  });
}, { only });

test("serve asks a stream for no more than the client takes", async () => {
  const chunk = new Uint8Array(65_536);
  let asked = 0;
  const endless: ServeHandler = () =>
    new Response(
      new ReadableStream({
        pull(controller) {
          asked++;
          controller.enqueue(chunk);
        },
      }, { highWaterMark: 0 }),
    );
  await withServed(served(endless), async ({ port }) => {
    const client = await Client.to(port);
    client.socket.pause();
    client.send(ask("x", { fields: "" }));
    await until(() => asked > 1, "the stream to begin");
    let before = -1;
    await until(async () => {
      before = asked;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return asked === before;
    }, "the stream to wait");
    assert(asked * chunk.length < 64 * 1024 * 1024, `${asked} chunks`);
    client.close();
  });
}, { only });

test("serve tells onError of a stream that fails", async () => {
  const errors: string[] = [];
  const tell = (error: unknown) => {
    errors.push((error as Error).message);
    return new Response("too late");
  };
  await withServed(served(answer, { onError: tell }), async ({ port }) => {
    const [message] = await exchange(port, ask("a stream that fails", { fields: "" }));
    assertEquals([message.line, message.body, message.whole], ["HTTP/1.1 200 OK", "one", false]);
    await until(() => errors.length > 0, "the error");
    assertEquals(errors, ["the stream failed"]);
  });
}, { only });

test("serve answers 500 where onError itself fails", async () => {
  const { error } = console;
  const lines: unknown[] = [];
  console.error = (...line) => lines.push(line);
  try {
    const onError = () => {
      throw new Error("again");
    };
    const [message] = await withServed(
      served(answer, { onError }),
      ({ port }) => exchange(port, ask("a rejection")),
    );
    assertEquals([message.line, message.body], [
      "HTTP/1.1 500 Internal Server Error",
      "Internal Server Error",
    ]);
    assertEquals(lines.length, 1);
  } finally {
    console.error = error;
  }
}, { only });
