/** A response of a file that no one has read yet: whoever looks at it must see a real `Response`. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { OpenFile } from "../../../http/root/open_file.ts";
import { type KeptResponse, lazyResponse, takeKept } from "../../../http/send/lazy_response.ts";
import { isDeno } from "../../../runtime.ts";
import { test } from "../../support/harness.ts";

/** A response of the text "file", and how often its real object was made. */
function sample(): { response: Response; made: () => number } {
  let made = 0;
  let isFree = true;
  const kept: KeptResponse = {
    status: 206,
    fields: { "ETag": '"x"' },
    body: { file: {} as OpenFile, parts: [], trailer: "", length: 4 },
    rateLimit: undefined,
    take: () => isFree && !(isFree = false),
  };
  const response = lazyResponse(kept, () => {
    made++;
    const body = new ReadableStream({
      pull(controller) {
        if (!kept.take()) throw new TypeError("taken");
        controller.enqueue(new TextEncoder().encode("file"));
        controller.close();
      },
    }, { highWaterMark: 0 });
    return new Response(body, { status: 206, statusText: "Partial Content", headers: { "ETag": '"x"' } });
  });
  return { response, made: () => made };
}

const LOOKS: Record<string, (response: Response) => unknown> = {
  "status": ({ status, ok }) => [status, ok],
  "statusText": ({ statusText }) => statusText,
  "headers": ({ headers }) => [...headers],
  "kind": ({ type, url, redirected }) => [type, url, redirected],
  "body": ({ body, bodyUsed }) => [body instanceof ReadableStream, body!.locked, bodyUsed],
  "class": (response) => [response instanceof Response, response.constructor === Response, String(response)],
  "text()": (response) => response.text(),
  "bytes()": (response) => response.bytes(),
  "clone()": async (response) => [await response.clone().text(), response.bodyUsed, await response.text()],
  "new Response(body, response)": (response) => {
    const { status, headers, body } = new Response(response.body, response);
    return [status, [...headers], body === response.body];
  },
  "set a field": ({ headers }) => {
    headers.set("a", "b");
    return [...headers];
  },
};

for (const [what, look] of Object.entries(LOOKS)) {
  test(`lazyResponse shows ${what} as a Response does`, async () => {
    const { response } = sample();
    const { headers, body } = sample().response;
    const real = new Response(body, { status: 206, statusText: "Partial Content", headers });
    assertEquals(await look(response), await look(real));
  });
}

test("lazyResponse makes the real object once, and not for the status", () => {
  const { response, made } = sample();
  if (isDeno) assertEquals([response.status, response.ok, made()], [206, true, 0]);
  response.headers.set("a", "b");
  assertEquals([response.headers.get("a"), made()], ["b", 1]);
});

test("lazyResponse can be given to functions of the runtime that take a Response", async () => {
  const { response } = sample();
  assertEquals(await Response.prototype.text.call(response), "file");
  assertEquals(sample().response.headers.get("etag"), '"x"');
  const name = crypto.randomUUID();
  const cache = await caches.open(name);
  const { headers, body } = sample().response;
  await cache.put("http://localhost/a", lazyOk(new Response(body, { headers })));
  assertEquals(await (await cache.match("http://localhost/a"))!.text(), "file");
  await caches.delete(name);
}, { only: "deno" });

/** `real` behind a lazy response. */
function lazyOk(real: Response): Response {
  return lazyResponse(
    { status: 200, fields: {}, body: undefined, rateLimit: undefined, take: () => true },
    () => real,
  );
}

test("takeKept gives an untouched file once, and its response counts as used", async () => {
  const { response } = sample();
  assert(takeKept(response));
  assertEquals(takeKept(response), undefined);
  assert(response.bodyUsed);
  await assertRejects(() => response.text(), TypeError);
}, { only: "deno" });

test("takeKept leaves a response alone that somebody has looked into", async () => {
  const { response } = sample();
  void response.headers;
  assertEquals(takeKept(response), undefined);
  assertEquals(await response.text(), "file");
});

test("takeKept takes no other values", () => {
  for (const other of [undefined, null, 1, "x", {}, new Response("x")]) {
    assertEquals(takeKept(other), undefined);
  }
});
