/** ./node's options, by the names, units and meaning that serve-static and Express have. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import {
  HttpError,
  sendFile,
  type SendFileOptions,
  serveStatic,
  type ServeStaticOptions,
} from "../../http/node.ts";
import { inDirectory, linesOf, write } from "../support/each_server.ts";
import { test } from "../support/harness.ts";
import { ask, type Reply } from "../support/http_client.ts";
import { startNode } from "../support/http_servers.ts";

type Get = (target: string, fields?: string, method?: string) => Promise<Reply>;

interface Setup {
  options?: ServeStaticOptions | null;
  /** Runs before the handler. */
  before?: (request: IncomingMessage, response: ServerResponse) => void;
}

/** What `next` was called with. */
const passed: unknown[] = [];

/** Behind the handler, what is passed on is 299, or the error's status with its name. */
function withStatic(
  body: (get: Get, root: string) => Promise<void>,
  { options, before }: Setup = {},
): Promise<void> {
  return inDirectory(async (base) => {
    const root = join(base, "root");
    write(join(root, "a.txt"), "content", new Date("2021-03-04T05:06:07Z"));
    write(join(root, "users/index.html"), "users");
    write(join(root, "users/.env"), "SECRET");
    write(join(root, ".well-known/a.txt"), "known");
    write(join(root, "page.html"), "page");
    const handler = serveStatic(root, options);
    const server = await startNode((request, response) => {
      before?.(request, response);
      handler(request, response, (error) => {
        passed.push(error);
        response.statusCode = error instanceof HttpError ? error.status : error ? 500 : 299;
        response.end(error ? `${error}` : "NEXT");
      });
    });
    try {
      await body((target, fields, method) => ask(server.port, target, { fields, method }), root);
      assertEquals(server.errors, []);
    } finally {
      await server.close();
    }
  });
}

const AGES: [ServeStaticOptions, string | undefined][] = [
  [{}, "public, max-age=0"],
  [{ maxAge: 3_600_000 }, "public, max-age=3600"],
  [{ maxAge: 1999.9 }, "public, max-age=1"],
  [{ maxAge: "1d" }, "public, max-age=86400"],
  [{ maxAge: "2 hours" }, "public, max-age=7200"],
  [{ maxAge: "1.5h" }, "public, max-age=5400"],
  [{ maxAge: "60000" }, "public, max-age=60"],
  [{ maxAge: Infinity }, "public, max-age=31536000"],
  [{ maxAge: "2y", immutable: true }, "public, max-age=31536000, immutable"],
  [{ immutable: true }, "public, max-age=0, immutable"],
  [{ maxage: "1m" } as ServeStaticOptions, "public, max-age=60"],
  [{ cacheControl: true, maxAge: 1000 }, "public, max-age=1"],
  [{ cacheControl: false, maxAge: 1000, immutable: true }, undefined],
  [{ cacheControl: "no-store" }, "no-store"],
];

for (const [options, expected] of AGES) {
  test(`serveStatic sends ${expected} for ${JSON.stringify(options)}${options.maxAge === Infinity ? " (∞)" : ""}`, () =>
    withStatic(async (get) => {
      assertEquals((await get("/a.txt")).headers["cache-control"], expected);
      assertEquals((await get("/a.txt", "If-None-Match: *\r\n")).headers["cache-control"], expected);
    }, { options }));
}

test("serveStatic omits etag, lastModified and acceptRanges if they are false", () =>
  withStatic(async (get) => {
    const { status, headers, body } = await get("/a.txt", "Range: bytes=0-1\r\n");
    assertEquals([status, String(body)], [200, "content"]);
    for (const name of ["etag", "last-modified", "accept-ranges"]) {
      assertEquals(headers[name], undefined, name);
    }
    const date = new Date().toUTCString();
    assertEquals((await get("/a.txt", `If-Modified-Since: ${date}\r\nIf-None-Match: "x"\r\n`)).status, 200);
    assertEquals((await get("/a.txt", 'If-Match: "x"\r\n')).status, 412);
  }, { options: { etag: false, lastModified: false, acceptRanges: false } }));

const INDEXES: [ServeStaticOptions, string, number][] = [
  [{}, "/users/", 200],
  [{ index: false }, "/users/", 299],
  [{ index: "index.html" }, "/users/", 200],
  [{ index: "none.html" }, "/users/", 299],
  [{ index: ["none.html", "index.html"] }, "/users/", 200],
  [{ extensions: "html" }, "/page", 200],
  [{ extensions: ["htm", "html"] }, "/page", 200],
  [{ extensions: false }, "/page", 299],
  [{}, "/page", 299],
  [{ extensions: ["html"] }, "/page.html.html", 299],
  [{ redirect: false }, "/users", 299],
  [{ redirect: true }, "/users", 301],
  [{ dotfiles: "allow" }, "/users/.env", 200],
  [{ dotfiles: "ignore" }, "/users/.env", 299],
  [{ dotfiles: "deny" }, "/users/.env", 299],
  [{ dotfiles: "deny" }, "/.well-known/a.txt", 200],
];

for (const [options, target, status] of INDEXES) {
  test(`serveStatic answers ${target} with ${status} for ${JSON.stringify(options)}`, () =>
    withStatic(async (get) => assertEquals((await get(target)).status, status), { options }));
}

const ERRORS: [target: string, status: number, name: string][] = [
  ["/none", 404, "NotFoundError: Not Found (ENOENT)"],
  ["/users/.env", 403, "ForbiddenError: Forbidden"],
  ["/%", 400, "BadRequestError: Bad Request"],
  [`/${"a".repeat(300)}`, 404, "NotFoundError: Not Found (ENAMETOOLONG)"],
  ["/../a.txt", 404, "NotFoundError: Not Found"],
];

test("serveStatic passes the error with its status to next if fallthrough is false", () =>
  withStatic(async (get) => {
    for (const [target, status, text] of ERRORS) {
      passed.length = 0;
      const reply = await get(target);
      assertEquals([reply.status, String(reply.body)], [status, text]);
      const [error] = passed as HttpError[];
      assertEquals([passed.length, error.status, error.statusCode, error.expose], [1, status, status, true]);
    }
    const refused = await get("/a.txt", "Content-Length: 0\r\n", "POST");
    assertEquals([refused.status, refused.headers.allow], [405, "GET, HEAD, OPTIONS"]);
  }, { options: { fallthrough: false, dotfiles: "deny" } }));

test("serveStatic passes failures to next with any fallthrough", () =>
  withStatic(async (get) => {
    const reply = await get("/a.txt");
    assertEquals([reply.status, String(reply.body)], [500, "Error: no field today"]);
    assertEquals((await get("/none")).status, 299);
  }, {
    options: {
      setHeaders() {
        throw new Error("no field today");
      },
    },
  }));

test("setHeaders sets fields of files alone, and they win", () => {
  const seen: unknown[] = [];
  return withStatic(async (get, root) => {
    const { headers } = await get("/a.txt");
    assertEquals([headers["x-custom"], headers["cache-control"], headers["content-type"]], [
      "set",
      "no-store",
      "x/y",
    ]);
    assertEquals(headers.etag, '"mine"');
    assertEquals((await get("/a.txt", 'If-None-Match: "mine"\r\n')).status, 304);
    assertEquals(seen[0], join(root, "a.txt"));
    assert(seen[1] instanceof fs.Stats && seen[1].size === 7);
    seen.length = 0;
    for (const target of ["/none", "/users"]) {
      assertEquals((await get(target)).headers["x-custom"], undefined, target);
    }
    assertEquals(seen, []);
  }, {
    options: {
      setHeaders(response, path, stat) {
        seen.push(path, stat);
        response.setHeader("X-Custom", "set");
        response.setHeader("cache-control", "no-store");
        response.setHeader("Content-Type", "x/y");
        response.setHeader("ETag", '"mine"');
      },
    },
  });
});

test("a status and fields that were set before stay, and then the whole file is sent", () =>
  withStatic(async (get) => {
    for (const fields of ["", "If-None-Match: *\r\n", "Range: bytes=0-1\r\n", 'If-Match: "x"\r\n']) {
      const reply = await get("/a.txt", fields);
      assertEquals([reply.status, String(reply.body)], [404, "content"], fields);
      assertEquals(linesOf(reply, "cache-control"), ["no-store"]);
      assertEquals(linesOf(reply, "expires"), ["0"]);
      assertEquals(linesOf(reply, "content-type"), ["text/html"]);
      assertEquals(linesOf(reply, "x-own"), ["1", "2"]);
    }
    const head = await get("/a.txt", "", "HEAD");
    assertEquals([head.status, head.headers["content-length"], head.body.length], [404, "7", 0]);
  }, {
    before(_request, response) {
      response.statusCode = 404;
      response.setHeader("Cache-Control", "no-store");
      response.setHeader("Expires", "0");
      response.setHeader("content-type", "text/html");
      response.setHeader("X-Own", ["1", "2"]);
    },
  }));

test("caching fields set for a file are not sent with an error", () =>
  withStatic(async (get) => {
    const file = await get("/a.txt");
    assertEquals([file.headers["cache-control"], file.headers["expires"]], ["public, max-age=60", "soon"]);
    for (const fields of ["Range: bytes=99-\r\n", 'If-Match: "x"\r\n']) {
      const { status, headers } = await get("/a.txt", fields);
      assertEquals([status >= 400, headers["cache-control"], headers["expires"]], [
        true,
        undefined,
        undefined,
      ]);
      assertEquals(headers["access-control-allow-origin"], "*");
    }
  }, {
    options: { setHeaders: (response) => void response.setHeader("Cache-Control", "public, max-age=60") },
    before(_request, response) {
      response.setHeader("Expires", "soon");
      response.setHeader("Access-Control-Allow-Origin", "*");
    },
  }));

test("an error keeps a no-store that was set for it", () =>
  withStatic(async (get) => {
    const { status, headers } = await get("/a.txt", "Range: bytes=99-\r\n");
    assertEquals([status, headers["cache-control"]], [416, "private, no-store"]);
  }, {
    before: (_request, response) => void response.setHeader("Cache-Control", "private, no-store"),
  }));

test("options win over fields that were set before, and Vary is merged", () =>
  withStatic(async (get) => {
    const reply = await get("/a.txt");
    assertEquals(linesOf(reply, "content-language"), ["en"]);
    assertEquals(linesOf(reply, "vary"), ["Origin, X-Own, Accept-Encoding"]);
    assertEquals(linesOf(reply, "link"), ["<a>", "<b>"]);
  }, {
    options: {
      headers: { "content-language": "en", "Vary": "X-Own", "link": ["<a>", "<b>"] },
      precompressed: true,
    },
    before(_request, response) {
      response.setHeader("Content-Language", "de");
      response.setHeader("vary", "Origin");
    },
  }));

test("serveStatic takes null for no options", () =>
  withStatic(async (get) => assertEquals((await get("/a.txt")).status, 200), { options: null }));

/** What `sendFile` answers. */
async function sent(root: string, path: string, options?: SendFileOptions): Promise<Reply> {
  const server = await startNode((request, response) => sendFile(request, response, path, options));
  try {
    const reply = await ask(server.port, "/anything");
    assertEquals(server.errors, []);
    assert(!reply.body.includes("SECRET"), `${root} ${path}`);
    return reply;
  } finally {
    await server.close();
  }
}

test("sendFile sends files below its root, and nothing else", () =>
  inDirectory(async (base) => {
    const root = join(base, "root");
    write(join(root, "dir/a b.txt"), "content");
    write(join(root, ".env"), "SECRET");
    write(join(base, "secret.txt"), "SECRET");
    fs.symlinkSync("../secret.txt", join(root, "out.txt"));
    for (const path of ["dir/a b.txt", "/dir/a b.txt", "./dir//a b.txt"]) {
      assertEquals(String((await sent(root, path, { root })).body), "content", path);
    }
    for (
      const path of [
        "../secret.txt",
        "dir/../../secret.txt",
        "out.txt",
        ".env",
        "dir",
        "",
        "dir/a b.txt/",
        "\0",
      ]
    ) {
      const { status } = await sent(root, path, { root });
      assert(status === 404 || status === 400, `${path}: ${status}`);
    }
    assertEquals((await sent(root, ".env", { root, dotfiles: "deny" })).status, 403);
    const aged = await sent(root, join(root, "dir/a b.txt"), { maxAge: "1h", headers: { "X-Own": "1" } });
    assertEquals([aged.headers["cache-control"], aged.headers["x-own"]], ["public, max-age=3600", "1"]);
    assertStringIncludes(String((await sent(root, join(root, "none"))).body), "404");
  }));
