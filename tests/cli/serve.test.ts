import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join, resolve } from "@std/path";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import process from "node:process";
import { gunzipSync, gzipSync } from "node:zlib";
import { contentType } from "../../http/content_type.ts";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, request } from "../support/http_client.ts";
import {
  assertRefused,
  childrenOf,
  CLI,
  MIB,
  missing,
  noProc,
  refusesConnections,
  Server,
  serving,
  SIZES,
  until,
} from "../support/site.ts";

const LARGE = `/${20 * MIB}.bin`;

test("serve prints its addresses and whether zero-copy is on", () =>
  serving((server, { root }) => {
    assertEquals(server.lines.slice(0, 3), [
      `Serving ${root}`,
      `http://127.0.0.1:${server.port}/`,
      "zero-copy: on",
    ]);
    return Promise.resolve();
  }), { skip: process.platform === "linux" ? undefined : "the third line differs" });

for (const size of SIZES) {
  test(`serve sends a file of ${size} bytes, its head exact`, () =>
    serving(async ({ port }, site) => {
      const reply = await ask(port, `/${size}.bin`);
      assertEquals(reply.status, 200);
      assertSame(reply.body, site.files.get(`/${size}.bin`)!, "the body");
      const { date: _, connection: __, etag, ...headers } = reply.headers;
      assert(/^"[\w.-]+"$/.test(etag), etag);
      assertEquals(headers, {
        "accept-ranges": "bytes",
        "content-length": String(size),
        "content-type": "application/octet-stream",
        "last-modified": fs.statSync(site.path(`${size}.bin`)).mtime.toUTCString(),
      });
      const head = await ask(port, `/${size}.bin`, { method: "HEAD" });
      assertEquals(head.status, 200);
      assertEquals(head.headers["content-length"], String(size));
      assertEquals(head.headers["last-modified"], headers["last-modified"]);
      assertEquals(head.headers.etag, etag);
    }));
}

test("serve keeps a connection through files, errors and HEAD", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    try {
      for (let round = 0; round < 3; round++) {
        for (const [target, content] of site.files) {
          client.send(request(target));
          const { status, body } = await client.reply();
          assertEquals(status, 200);
          assertSame(body, content, target);
          client.send(request(target, { method: "HEAD" }));
          assertEquals(
            (await client.reply({ bodiless: true })).headers["content-length"],
            `${content.length}`,
          );
          client.send(request("/missing"));
          assertEquals((await client.reply()).status, 404);
        }
      }
    } finally {
      client.close();
    }
  }));

for (const [where, at] of [["first", 0], ["in the middle", 2], ["last", 4]] as const) {
  const targets = ["/1.bin", "/4096.bin", "/0.bin", "/missing"];
  targets.splice(at, 0, LARGE);

  test(
    `serve answers pipelined requests in order, the large file ${where}`,
    () =>
      serving(async ({ port }, site) => {
        const client = await Client.to(port);
        try {
          client.send(...targets.map((target) => request(target)));
          for (const target of targets) {
            const { status, body } = await client.reply();
            assertEquals(status, target === "/missing" ? 404 : 200);
            if (status === 200) assertSame(body, site.files.get(target)!, target);
          }
          client.send(request("/1.bin"));
          assertEquals((await client.reply()).status, 200);
        } finally {
          client.close();
        }
      }),
  );
}

test("serve answers HEAD between pipelined requests", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    try {
      client.send(request("/1.bin"), request(LARGE, { method: "HEAD" }), request("/4096.bin"));
      assertSame((await client.reply()).body, site.files.get("/1.bin")!, "first");
      assertEquals((await client.reply({ bodiless: true })).headers["content-length"], String(20 * MIB));
      assertSame((await client.reply()).body, site.files.get("/4096.bin")!, "last");
    } finally {
      client.close();
    }
  }));

test("serve answers thousands of requests that were sent at once, in order", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    const targets = Array.from({ length: 5000 }, (_, i) => i === 10 ? LARGE : `/${[0, 1, 4096][i % 3]}.bin`);
    client.send(targets.map((target) => request(target)).join(""));
    for (const target of targets) {
      const { status, body } = await client.reply();
      assertEquals(status, 200);
      assertSame(body, site.files.get(target)!, target);
    }
    client.close();
  }));

test("serve ends the connection after Connection: close and after HTTP/1.0", () =>
  serving(async ({ port }, site) => {
    for (const target of ["/4096.bin", LARGE]) {
      for (const options of [{ fields: "Connection: close\r\n" }, { version: "1.0" }]) {
        const client = await Client.to(port);
        client.send(request(target, options));
        assertSame((await client.reply()).body, site.files.get(target)!, target);
        assertEquals((await client.rest()).length, 0);
        client.close();
      }
    }
  }));

test("serve keeps an HTTP/1.0 connection that asks for it", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    for (let i = 0; i < 3; i++) {
      client.send(request("/4096.bin", { version: "1.0", fields: "Connection: keep-alive\r\n" }));
      assertSame((await client.reply()).body, site.files.get("/4096.bin")!, `${i}`);
    }
    client.close();
  }));

test("serve sends index.html for a directory, and redirects to its slash", () =>
  serving(async ({ port }, site) => {
    site.add("sub/index.html", "sub");
    site.add("a b%/index.html", "odd");
    fs.mkdirSync(site.path("bare"));
    fs.mkdirSync(site.path("nested/index.html"), { recursive: true });
    const replies: Record<string, [number, string | undefined]> = {
      "/": [200, undefined],
      "/?q": [200, undefined],
      "/sub/": [200, undefined],
      "/sub": [301, "sub/"],
      "/sub?a=/../b&c=%2f": [301, "sub/?a=/../b&c=%2f"],
      "/a%20b%25": [301, "a%20b%25/"],
      "/a%20b%25/": [200, undefined],
      "/bare": [301, "bare/"],
      "/bare/": [200, undefined],
      "/nested/": [200, undefined],
      "/index.html/": [301, "../index.html"],
      "/sub/index.html/x": [404, undefined],
      "http://other.example/sub?q": [301, "sub/?q"],
      "http://other.example": [200, undefined],
    };
    for (const [target, expected] of Object.entries(replies)) {
      const { status, headers } = await ask(port, target);
      assertEquals([status, headers.location], expected, target);
    }
    assertEquals(String((await ask(port, "/sub/")).body), "sub");
    assertEquals((await ask(port, "/sub/")).headers["content-type"], "text/html; charset=utf-8");
  }));

test("serve answers malformed, missing and other than GET requests with one plain line", () =>
  serving(async ({ port }) => {
    const refused: [string, string, number][] = [
      ["GET", "/missing", 404],
      ["HEAD", "/missing", 404],
      ["GET", "/%", 400],
      ["GET", "/%zz", 400],
      ["GET", "/%00", 400],
      ["GET", "/index.html%00.txt", 400],
      ["GET", "/%ff", 400],
      ["GET", "/%c0%ae%c0%ae/secret.txt", 400],
      ["GET", "/%ed%a0%80", 400],
      ["GET", `/${"a".repeat(300)}`, 404],
      ["GET", `/${"a/".repeat(3000)}`, 404],
      ["POST", "/", 405],
      ["PUT", "/index.html", 405],
      ["DELETE", "/index.html", 405],
      ["TRACE", "/", 405],
    ];
    for (const [method, target, status] of refused) {
      const reply = await ask(port, target, {
        method,
        fields: method === "POST" ? "Content-Length: 0\r\n" : "",
      });
      assertEquals(reply.status, status, `${method} ${target}`);
      assertEquals(reply.headers.allow, status === 405 ? "GET, HEAD, OPTIONS" : undefined);
      if (method !== "HEAD") assert(/^\d{3} [A-Z][A-Za-z ]+\n$/.test(String(reply.body)), String(reply.body));
    }
  }));

test("serve never leaves the root, in whatever spelling", () =>
  serving(async (server, site) => {
    site.add("dir/file.txt", "inside");
    const climbs = [
      "..",
      "%2e%2e",
      "%2E.",
      ".%2e",
      "..%2f..",
      "..%5c..",
      "..\\..",
      "%252e%252e",
      "..%00",
      "..;",
    ];
    const targets = climbs.flatMap((climb) => [
      `/${climb}/secret.txt`,
      `/dir/${climb}/${climb}/secret.txt`,
      `/${climb}%2fsecret.txt`,
      `/${climb}%5csecret.txt`,
      `/${climb}\\secret.txt`,
      `/dir/${climb}\\${climb}\\secret.txt`,
      `http://test/${climb}/secret.txt`,
    ]);
    targets.push(
      "//secret.txt",
      "/%2fetc/passwd",
      "//etc/passwd",
      `/${site.base}/secret.txt`,
      `/%2f${site.base.slice(1)}/secret.txt`,
      "/root/../../secret.txt",
      "/dir%2ffile.txt",
      "/dir%5cfile.txt",
      "/file:///etc/passwd",
      "/~root/",
      "/C:/secret.txt",
    );
    for (const target of targets) {
      const { status, body } = await ask(server.port, target);
      assert(status === 404 || status === 400, `${target}: ${status}`);
      assert(!body.includes("SECRET") && !body.includes("inside"), target);
    }
  }));

test("serve never redirects to another host", () =>
  serving(async ({ port }, site) => {
    fs.mkdirSync(site.path("evil.example"));
    const targets = ["//evil.example", "///evil.example", "/\\evil.example", "/%5cevil.example"];
    targets.push("/%2fevil.example", "//evil.example/..", "/./evil.example", "/.//evil.example");
    targets.push("http://test//evil.example", "http://x@evil.example//evil.example");
    for (const target of targets) {
      const { status, headers } = await ask(port, target);
      if (status === 404) assertEquals(headers.location, undefined);
      else assert(/^(\.\.\/)*evil\.example\/$/.test(headers.location), `${target}: ${headers.location}`);
    }
  }));

test("serve follows symlinks inside the root, but not out of it", () =>
  serving(async ({ port }, site) => {
    site.add("dir/file.txt", "inside");
    fs.mkdirSync(join(site.base, "root-beside"));
    fs.writeFileSync(join(site.base, "root-beside/index.html"), "SECRET");
    const links: [string, string, number][] = [
      ["in.txt", "dir/file.txt", 200],
      ["absolute.txt", site.path("dir/file.txt"), 200],
      ["out.txt", "../secret.txt", 404],
      ["etc.txt", "/etc/passwd", 404],
      ["up", "..", 404],
      ["beside", "../root-beside", 404],
      ["null", "/dev/null", 404],
      ["broken", "nowhere", 404],
      ["loop", "loop", 404],
    ];
    for (const [name, target, status] of links) {
      fs.symlinkSync(target, site.path(name));
      const { status: actual, body } = await ask(port, `/${name}`);
      assertEquals(actual, status, name);
      assertEquals(String(body), status === 200 ? "inside" : "404 Not Found\n");
    }
    for (const target of ["/up/secret.txt", "/up/", "/beside/", "/beside/index.html"]) {
      assertEquals((await ask(port, target)).status, 404, target);
    }
    fs.mkdirSync(site.path("linked"));
    fs.symlinkSync("../../secret.txt", site.path("linked/index.html"));
    const linked = String((await ask(port, "/linked/")).body);
    assert(!linked.includes("index.html") && !linked.includes("SECRET"), linked);
    fs.symlinkSync("dir", site.path("link"));
    assertEquals((await ask(port, "/link")).headers.location, "link/");
    assertEquals((await ask(port, "/link/file.txt")).status, 200);
  }));

test("serve accepts a symlink as its root, and notices when it is changed to another directory", async () => {
  await serving(async ({ port }, site) => {
    assertEquals((await ask(port, "/real.txt")).status, 200);
    // A new release: the next request finds it, and the old one is outside.
    fs.mkdirSync(join(site.base, "next"));
    fs.writeFileSync(join(site.base, "next/new.txt"), "new");
    fs.symlinkSync("../target/real.txt", join(site.base, "next/old.txt"));
    fs.rmSync(site.root);
    fs.symlinkSync("next", site.root);
    assertEquals(String((await ask(port, "/new.txt")).body), "new");
    assertEquals((await ask(port, "/real.txt")).status, 404);
    assertEquals((await ask(port, "/old.txt")).status, 404);
  }, {
    prepare(site) {
      fs.renameSync(site.root, join(site.base, "old"));
      fs.mkdirSync(join(site.base, "target"));
      fs.writeFileSync(join(site.base, "target/real.txt"), "x");
      fs.symlinkSync("target", site.root);
    },
  });
});

test("serve shows no dotfiles but .well-known", () =>
  serving(async ({ port }, site) => {
    site.add(".env", "SECRET");
    site.add(".git/config", "SECRET");
    site.add("dir/.hidden/file.txt", "SECRET");
    site.add(".well-known/security.txt", "Contact: x");
    for (const target of ["/.env", "/%2eenv", "/.git/config", "/.git", "/.git/", "/dir/.hidden/file.txt"]) {
      assertEquals((await ask(port, target)).status, 404, target);
    }
    assertEquals((await ask(port, "/.well-known/security.txt")).status, 200);
  }));

test("serve does not wait for a FIFO, nor open a socket", () =>
  serving(async ({ port }, site) => {
    assertEquals(spawnSync("mkfifo", [site.path("pipe")]).status, 0);
    const listener = net.createServer().listen(site.path("socket"));
    await new Promise((resolve) => listener.once("listening", resolve));
    try {
      for (const target of ["/pipe", "/socket"]) {
        for (const method of ["GET", "HEAD"]) assertEquals((await ask(port, target, { method })).status, 404);
      }
    } finally {
      listener.close();
    }
  }), { skip: missing("mkfifo") });

test(
  "serve survives clients that leave in the middle, and keeps no descriptor",
  () =>
    serving(async (server, site) => {
      for (let i = 0; i < 3; i++) await ask(server.port, LARGE); // whatever is opened once and kept, is
      const before = await settled(server);
      const clients = await Promise.all(Array.from({ length: 20 }, () => Client.to(server.port)));
      await Promise.all(clients.map((client, i) => {
        // Every other one with more requests behind, which will never have their turn.
        client.send(request(LARGE).repeat(i % 2 === 0 ? 1 : 5));
        return client.begun();
      }));
      clients.forEach(({ socket }, i) => i % 3 === 0 ? socket.resetAndDestroy() : socket.destroy());
      await until(() => server.descriptors() <= before, `${before} descriptors, not ${server.descriptors()}`);
      assertSame((await ask(server.port, LARGE)).body, site.files.get(LARGE)!, "afterwards");
      await server.line(/ GET \/20971520.bin 200 \d+ sendfile \(the client left\)$/);
    }),
  { skip: noProc },
);

test(
  "serve takes connections again after a time with too many open files",
  () =>
    serving(async (server, site) => {
      const clients = await Promise.all(Array.from({ length: 80 }, () => Client.to(server.port)));
      await until(() => server.errors.includes("at the limit of descriptors"), "the limit");
      clients.forEach((client) => client.close());
      assertSame((await ask(server.port, "/1.bin")).body, site.files.get("/1.bin")!, "afterwards");
    }, {
      before: ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"],
      errors: /^at the limit of [^\n]*\n$/,
    }),
  { skip: noProc },
);

/** The count of descriptors, once no connection is left. */
function settled(server: Server): Promise<number> {
  const sockets = () => {
    const directory = `/proc/${server.child.pid}/net/tcp`;
    const port = server.port.toString(16).toUpperCase().padStart(4, "0");
    return fs.readFileSync(directory, "latin1").split("\n").filter((line) =>
      new RegExp(`^ *\\d+: \\w+:${port} \\w+:\\w+ 0[18]`).test(line)
    ).length;
  };
  return until(() => sockets() === 0 && server.descriptors(), "the connections to be closed");
}

test(
  "serve ends the connection if a file is truncated during the transfer",
  () =>
    serving(async (server, site) => {
      const client = await Client.to(server.port);
      client.send(request(LARGE), request("/1.bin"));
      await client.begun();
      fs.truncateSync(site.path(`${20 * MIB}.bin`), 0);
      client.socket.resume();
      const all = await client.rest();
      const body = all.subarray(all.indexOf("\r\n\r\n") + 4);
      assert(body.length < 20 * MIB);
      assertSame(body, site.files.get(LARGE)!.subarray(0, body.length), "what came");
      assertEquals((await ask(server.port, "/1.bin")).status, 200);
      await server.line(/ GET \/20971520.bin 200 \d+ sendfile \(the file became shorter\)$/);
    }),
);

test("serve sends no more than Content-Length if a file grows during the transfer", () =>
  serving(async ({ port }, site) => {
    const client = await Client.to(port);
    client.send(request(LARGE, { fields: "Connection: close\r\n" }));
    await client.begun();
    fs.appendFileSync(site.path(`${20 * MIB}.bin`), randomBytes(MIB));
    client.socket.resume();
    assertSame((await client.reply()).body, site.files.get(LARGE)!, "the body");
    assertEquals((await client.rest()).length, 0);
  }));

test("serve logs how each body was sent, and clients cannot inject log lines", () =>
  serving(async (server) => {
    await ask(server.port, `${LARGE}?q=1`);
    await ask(server.port, "/0.bin");
    await ask(server.port, "/1.bin", { method: "HEAD" });
    await ask(server.port, "/missing%0aGET%1b");
    await server.line(/ GET \/missing/);
    const logged = server.lines.filter((line) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ 127\.0\.0\.1 /.test(line));
    assertEquals(logged.map((line) => line.split(" ").slice(2).join(" ")), [
      `GET ${LARGE}?q=1 200 ${20 * MIB} sendfile`,
      "GET /0.bin 200 0 -",
      "HEAD /1.bin 200 0 -",
      "GET /missing%0aGET%1b 404 14 -",
    ]);
  }));

test("serve copies without --allow-ffi, says so and never prompts", () =>
  serving(async (server, site) => {
    for (const target of ["/1.bin", "/65537.bin", LARGE]) {
      assertSame((await ask(server.port, target)).body, site.files.get(target)!, target);
    }
    assertStringIncludes(server.lines[2], "zero-copy: off (no permission: run with --allow-ffi");
    await server.line(/ GET \/20971520\.bin 200 20971520 copy \(no permission: run with --allow-ffi/);
  }, { permissions: ["--no-prompt", "--allow-net", "--allow-read", "--allow-env"] }), { only: "deno" });

test("serve lets the body's bytes go by sendfile(2)", async () => {
  const trace = join(fs.mkdtempSync(join(tmpdir(), "strace-")), "trace");
  const calls = "trace=sendfile,write,writev,sendto,sendmsg,splice";
  try {
    await serving(async (server) => {
      assertEquals((await ask(server.port, LARGE)).status, 200);
      await server.line(/ sendfile$/);
    }, { before: ["strace", "-D", "-f", "-s", "0", "-e", calls, "-o", trace] });
    // The tracer, which is nobody's child, writes on for a moment.
    const lines = await until(() => {
      const text = fs.readFileSync(trace, "utf8");
      return /\+\+\+ (killed|exited)/.test(text) && text.split("\n");
    }, "the end of the trace");
    const moved = (pattern: RegExp) =>
      lines.filter((line) => pattern.test(line))
        .reduce((sum, line) => sum + Number(/ = (\d+)$/.exec(line)?.[1] ?? 0), 0);
    assertEquals(moved(/\bsendfile\b/), 20 * MIB);
    assert(moved(/\b(write|writev|sendto|sendmsg|splice)\b/) < MIB);
  } finally {
    fs.rmSync(resolve(trace, ".."), { recursive: true });
  }
}, { skip: missing("strace") });

const usage: [string, string[], number, RegExp][] = [
  ["an unknown flag", ["--nonsense"], 2, /^error: Unknown option '--nonsense' \(see --help\)\n$/],
  [
    "an invalid port",
    ["-p", "http"],
    2,
    /^error: --port must be a number from 0 to 65535, not "http"\n$/,
  ],
  ["a port out of range", ["-p", "65536"], 2, /^error: --port must be .*\n$/],
  ["a flag without its value", ["--port"], 2, /^error: .*--port.*\n$/],
  ["two directories", ["a", "b"], 2, /^error: one directory at most, not 2\n$/],
  ["a missing directory", ["/no/such/place"], 1, /^error: there is no directory \/no\/such\/place\n$/],
  ["a file as directory", [CLI], 1, /^error: .*cli\.ts is not a directory\n$/],
  ["a header that is none", ["-H", "nonsense", "."], 2, /^error: a header must be .*\n$/],
  ["a header that frames", ["-H", "Content-Length: 1", "."], 2, /^error: Content-Length is set by .*\n$/],
  ["an age that is none", ["--max-age", "1d"], 2, /^error: --max-age must be .*\n$/],
  ["a rate of nothing", ["--rate-limit", "0"], 2, /^error: --rate-limit must be .*\n$/],
  ["no workers", ["--workers", "0"], 2, /^error: --workers must be .*\n$/],
  ["a log that is none", ["--log", "xml"], 2, /^error: --log must be text, json or none, not "xml"\n$/],
  [
    "a host that is not here, for workers too",
    ["--host", "192.0.2.77", "-p", "0", "--workers", "2", "."],
    1,
    /^error: cannot listen on .*\n$/,
  ],
  ["a host that is not here", ["--host", "192.0.2.77", "-p", "0", "."], 1, /^error: cannot listen on .*\n$/],
];

for (const [what, args, code, message] of usage) {
  test(`serve refuses ${what}`, () => assertRefused(args, code, message));
}

test("serve refuses a port in use", async () => {
  const holder = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => holder.once("listening", resolve));
  const { port } = holder.address() as net.AddressInfo;
  const server = new Server({ args: ["-p", String(port), "--host", "127.0.0.1", import.meta.dirname!] });
  try {
    assertEquals(await server.exit(), 1);
    assertEquals(server.errors, `error: cannot listen on 127.0.0.1:${port}: the port is in use\n`);
  } finally {
    await server.stop();
    holder.close();
  }
});

test("serve prints its version, that of both manifests", async () => {
  const server = new Server({ args: ["-V"] });
  try {
    assertEquals(await server.exit(), 0);
    for (const name of ["deno.json", "package.json"]) {
      const manifest = JSON.parse(fs.readFileSync(resolve(CLI, "..", name), "utf8"));
      assertEquals(server.lines, [manifest.version]);
    }
  } finally {
    await server.stop();
  }
});

test("serve prints its help", async () => {
  const server = new Server({ args: ["--help"] });
  try {
    assertEquals(await server.exit(), 0);
    assertStringIncludes(server.lines.join("\n"), "--port");
  } finally {
    await server.stop();
  }
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  for (const workers of [1, 2]) {
    const who = workers === 1 ? "" : " with workers";
    test(`serve${who} finishes what is in flight on ${signal}, and takes nothing new`, () =>
      serving(async (server, site) => {
        const [busy, idle] = await Promise.all([Client.to(server.port), Client.to(server.port)]);
        idle.send(request("/1.bin"));
        await idle.reply();
        busy.send(request(LARGE));
        await busy.begun();
        process.kill(server.child.pid!, signal); // Deno tells no exit code after child.kill
        await until(async () => await refusesConnections(server.port), "the listener to close");
        busy.socket.resume();
        assertSame((await busy.reply()).body, site.files.get(LARGE)!, "the body");
        assertEquals(await server.exit(), 0);
        await Promise.all([busy.rest(), idle.rest()]);
      }, { args: ["--workers", `${workers}`] }));

    test(`serve${who} ends at once on the second ${signal}`, () =>
      serving(async (server) => {
        const client = await Client.to(server.port);
        client.send(request(LARGE));
        await client.begun();
        process.kill(server.child.pid!, signal);
        await until(async () => await refusesConnections(server.port), "the listener to close");
        process.kill(server.child.pid!, signal);
        assertEquals(await server.exit(), signal === "SIGINT" ? 130 : 143);
        client.close();
      }, { args: ["--workers", `${workers}`] }));
  }
}

test("serve answers a request that comes after the signal, and then ends the connection", () =>
  serving(async (server, site) => {
    const client = await Client.to(server.port);
    client.send(request(LARGE));
    await client.begun();
    process.kill(server.child.pid!, "SIGTERM");
    await until(async () => await refusesConnections(server.port), "the listener to close");
    client.send(request("/1.bin"));
    client.socket.resume();
    assertSame((await client.reply()).body, site.files.get(LARGE)!, "the body");
    const last = await client.reply();
    assertSame(last.body, site.files.get("/1.bin")!, "the last");
    assertEquals(last.headers.connection, "close");
    assertEquals((await client.rest()).length, 0);
    assertEquals(await server.exit(), 0);
  }));

test(
  "serve spreads connections over its workers, and replaces one that dies",
  () =>
    serving(async (server) => {
      const children = () => childrenOf(server.child.pid!);
      const first = await until(() => children().length === 3 && children(), "three workers");
      const idle = first.map(socketsOf);
      const busy = new Set<number>();
      for (let i = 0; i < 200 && busy.size < 2; i++) {
        const client = await Client.to(server.port);
        client.send(request("/1.bin"));
        await client.reply();
        first.forEach((pid, i) => socketsOf(pid) > idle[i] && busy.add(pid));
        client.close();
      }
      assert(busy.size >= 2);
      process.kill(first[0], "SIGKILL");
      await until(() => children().length === 3 && !children().includes(first[0]), "a new worker");
      await until(() => server.errors.includes("a worker ended"), "the notice");
      for (let i = 0; i < 10; i++) assertEquals((await ask(server.port, "/1.bin")).status, 200);
      server.errors = ""; // the notice was wanted
      process.kill(server.child.pid!, "SIGTERM");
      assertEquals(await server.exit(), 0);
      assertEquals(children(), []);
    }, { args: ["--workers", "3"] }),
  { skip: noProc },
);

function socketsOf(pid: number): number {
  return fs.readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("socket:");
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}

test("serve logs JSON, with a client's text as data", () =>
  serving(async (server) => {
    const fields = 'Range: bytes=0-9\r\nUser-Agent: "x\\\r\n';
    await ask(server.port, "/4096.bin?a=%22b", { fields });
    const line = JSON.parse(await server.line(/^{/));
    const { time, ms, ...rest } = line;
    assert(Number.isFinite(Date.parse(time)) && ms > 0);
    assertEquals(rest, {
      client: "127.0.0.1",
      method: "GET",
      target: "/4096.bin?a=%22b",
      status: 206,
      bytes: 10,
      way: "sendfile",
      range: "bytes=0-9",
      agent: '"x\\',
    });
  }, { args: ["--log", "json"] }));

test("serve logs more with -v, and nothing with --log none", async () => {
  await serving(async (server) => {
    await ask(server.port, "/1.bin", { fields: "User-Agent: me too\r\n" });
    await server.line(/ 127\.0\.0\.1 GET \/1\.bin 200 1 sendfile \d+\.\dms - "me too"$/);
  }, { args: ["-v"] });
  await serving(async (server) => {
    await ask(server.port, "/1.bin");
    process.kill(server.child.pid!, "SIGTERM");
    assertEquals(await server.exit(), 0);
    assertEquals(server.lines.filter((line) => line.includes(" GET ")), []);
  }, { args: ["--log", "none"] });
});

test("serve applies the flags that change responses", () =>
  serving(async ({ port }, site) => {
    site.add("style.css", "plain");
    site.add("style.css.gz", gzipSync("plain"));
    site.add(".hidden", "hidden");
    const accept = "Accept-Encoding: gzip\r\n";
    const { headers, body } = await ask(port, "/style.css", { fields: accept });
    assertEquals(String(gunzipSync(body)), "plain");
    assertEquals(headers["content-encoding"], "gzip");
    assertEquals(headers["cache-control"], "public, max-age=60");
    assertEquals(headers["access-control-allow-origin"], "*");
    assertEquals([headers["x-one"], headers["x-two"]], ["1", "a: b"]);
    assertEquals((await ask(port, "/.hidden")).status, 200);
    assertEquals(String((await ask(port, "/some/page")).body), "<h1>index</h1>");
    assertEquals((await ask(port, "/some/missing.js")).status, 404);
    fs.mkdirSync(site.path("bare"));
    assertEquals((await ask(port, "/bare/")).status, 200); // the application's own
  }, {
    args: [
      "--precompressed",
      "--max-age=60",
      "--cors",
      "--dotfiles",
      "--spa",
      "--no-dir-listing",
      "-H",
      "X-One: 1",
      "--header=X-Two: a: b",
    ],
  }));

test("serve lists directories, unless it is turned off", async () => {
  await serving(async ({ port }, site) => {
    site.add("dir/<b>.txt", "x");
    assertStringIncludes(String((await ask(port, "/dir/")).body), "&lt;b&gt;.txt</a>");
  });
  await serving(async ({ port }, site) => {
    site.add("dir/<b>.txt", "x");
    assertEquals((await ask(port, "/dir/")).status, 404);
  }, { args: ["--no-dir-listing"] });
});

test("serve keeps to the rate limit", () =>
  serving(async ({ port }, site) => {
    const began = performance.now();
    assertSame((await ask(port, "/65537.bin")).body, site.files.get("/65537.bin")!, "the body");
    // Never faster than the limit allows, with the first piece of a tenth of a second at once.
    assert(performance.now() - began > (65537 / (128 * 1024) - 0.1) * 1000 - 50);
  }, { args: ["--rate-limit", "128k"] }));

test("contentType goes by the extension", () => {
  assertEquals(contentType("/a/index.html"), "text/html; charset=utf-8");
  assertEquals(contentType("a.b/STYLE.CSS"), "text/css; charset=utf-8");
  assertEquals(contentType("app.mjs"), "text/javascript; charset=utf-8");
  assertEquals(contentType("app.wasm"), "application/wasm");
  assertEquals(contentType("icon.svg"), "image/svg+xml");
  for (const path of ["README", "a.unheard-of", ".bashrc", "a.", "html"]) {
    assertEquals(contentType(path), "application/octet-stream", path);
  }
});
