/** Unusual requests that are valid: versions, methods, forms of the target, fields; and a plan that fails. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { request } from "../support/http_client.ts";
import { assertAnswered, serving, SMUGGLED, turn } from "./serving.ts";

serving("takes each Host that may be one", async (place) => {
  const hosts = [
    "",
    "x",
    "x:80",
    "x:",
    "EXAMPLE.org",
    "a-b.c_d~e",
    "1.2.3.4:80",
    "[::1]",
    "[2001:DB8::1]:8000",
    "a%20b",
  ];
  for (const host of hosts) {
    await assertAnswered(place, `GET /a.txt HTTP/1.1\r\nHost: ${host}\r\n\r\n`, 200, "this is a");
    await assertAnswered(place, `GET /a.txt HTTP/1.1\r\nHOST:\t ${host}\t \r\n\r\n`, 200, "this is a");
  }
});

serving("answers HTTP/1.0 without Host, and ends the connection", async (place) => {
  const client = await place.client();
  client.send("GET /a.txt HTTP/1.0\r\n\r\n", SMUGGLED);
  const { status, head, headers, body } = await client.reply();
  assertEquals([status, String(body), headers.connection], [200, "this is a", "close"]);
  assert(head.startsWith("HTTP/1.1 "), head);
  assertEquals((await client.rest()).length, 0);
});

serving("answers a higher minor version as HTTP/1.1", async (place) => {
  for (const version of ["1.2", "1.9"]) {
    await assertAnswered(place, `GET /a.txt HTTP/${version}\r\nHost: x\r\n\r\n`, 200, "this is a");
  }
});

serving("answers a method that it does not know with 405, and goes on", async (place) => {
  for (const method of ["BREW", "get", "Get", "GETT", "M-SEARCH", "!#$%&'*+-.^_`|~", "X".repeat(1000)]) {
    await assertAnswered(place, `${method} /a.txt HTTP/1.1\r\nHost: x\r\n\r\n`, 405);
  }
});

serving("answers CONNECT with 405, TRACE too, and says nothing of what was sent", async (place) => {
  await assertAnswered(place, "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n", 405);
  await assertAnswered(
    place,
    "TRACE / HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n",
    405,
    "405 Method Not Allowed\n",
  );
});

serving(
  "takes the absolute form whatever Host says, and the asterisk form for OPTIONS alone",
  async (place) => {
    for (const target of ["http://x/a.txt", "HTTP://other.example:1/a.txt?q", "https://[::1]/a.txt"]) {
      await assertAnswered(place, `GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`, 200, "this is a");
    }
    await assertAnswered(place, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 204);
    for (const target of ["*", "a.txt", "x:80", "?/a.txt", "#"]) {
      await assertAnswered(place, `GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`, 400);
    }
  },
);

serving("takes raw UTF-8 in a target as if it were percent-encoded", async (place) => {
  for (const name of ["\u00e4.txt", "\u6587.txt", "\u{1f600}.txt", "a\u0308.txt"]) {
    place.add(name, `this is ${name}`);
    const raw = Buffer.from(name).toString("latin1");
    const content = Buffer.from(`this is ${name}`).toString();
    await assertAnswered(place, `GET /${raw} HTTP/1.1\r\nHost: x\r\n\r\n`, 200, content);
    await assertAnswered(place, `GET /${encodeURIComponent(name)} HTTP/1.1\r\nHost: x\r\n\r\n`, 200, content);
    // In a head that is not UTF-8 besides.
    await assertAnswered(place, `GET /${raw} HTTP/1.1\r\nHost: x\r\nX: \xff\r\n\r\n`, 200, content);
  }
  await assertAnswered(place, "GET /\xe4.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400); // Latin-1: not UTF-8
});

serving("reads over an empty line before a request", async (place) => {
  const client = await place.client();
  for (let i = 0; i < 3; i++) {
    client.send("\r\n", request("/a.txt"));
    assertEquals(String((await client.reply()).body), "this is a");
  }
  const post = request("/", { method: "POST", fields: "Content-Length: 3\r\n" });
  client.send(`\r\n${post}abc\r\n${request("/b.txt")}`); // as old browsers did
  assertEquals((await client.reply()).status, 405);
  assertEquals(String((await client.reply()).body), "this is b");
});

serving("knows a field by its name in any case, its value without the space around it", async (place) => {
  const values: [line: string, value: string][] = [
    ["x-y:z", "z"],
    ["X-Y:  z \t", "z"],
    ["x-Y:\tz  z", "z  z"],
    ["X-Y:", ""],
    ["X-Y: \t ", ""],
    ["X-Y: a: b", "a: b"],
    ["X-Y: caf\xe9 \xff\x80", "caf\xe9 \xff\x80"], // obs-text
    ["X-Y: \xe2\x82\xac", "\xe2\x82\xac"],
    ["X-Y: \xef\xbb\xbf", "\xef\xbb\xbf"],
    ["X-Y: a\r\nx-y: b", "a, b"],
    ["X-Y:\r\nx-y: b\r\nX-Y: c", ", b, c"],
  ];
  for (const [line, value] of values) {
    await assertAnswered(place, `GET /a.txt HTTP/1.1\r\nHost: x\r\n${line}\r\n\r\n`, 200, "this is a");
    assertEquals(place.requests.at(-2)!.field("x-y"), value, JSON.stringify(line));
    assertEquals(place.requests.at(-1)!.field("x-y"), undefined);
  }
});

serving("does not find in a head what every object has", async (place) => {
  await assertAnswered(
    place,
    "GET /a.txt HTTP/1.1\r\nHost: x\r\n__proto__: y\r\nconstructor: z\r\n\r\n",
    200,
  );
  const { field } = place.requests[0];
  assertEquals([field("__proto__"), field("constructor"), field("tostring")], ["y", "z", undefined]);
});

serving("answers 500 where the answer fails, tells of it, and goes on in order", async (place) => {
  const client = await place.client();
  const targets = ["/throws", "/fine", "/rejects", "/fine", "/late", "/throws", "/fine"];
  client.send(...targets.map((target) => request(target, { fields: "Content-Length: 3\r\n" }) + "abc"));
  for (const target of targets) {
    const { status, headers, body } = await client.reply();
    assertEquals([status, headers.connection], [target === "/fine" ? 200 : 500, undefined], target);
    assertEquals(String(body), target === "/fine" ? "fine" : "500 Internal Server Error\n");
  }
  client.send(request("/throws", { method: "HEAD" }), request("/fine"));
  assertEquals((await client.reply({ bodiless: true })).status, 500);
  assertEquals(String((await client.reply()).body), "fine");
}, {
  plan({ target }) {
    if (target === "/throws") throw new Error("thrown");
    if (target === "/rejects") return Promise.reject(new Error("rejected"));
    if (target === "/late") return turn().then(() => Promise.reject(new Error("late")));
    return { status: 200, headers: { "Content-Length": "4" }, body: "fine" };
  },
  errors: ["thrown", "rejected", "late", "thrown", "thrown"],
});
