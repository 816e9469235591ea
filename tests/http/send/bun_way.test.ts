/** What withSendfile says on Bun of the way that Bun.serve sends a file's body, and that strace says the same. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as https from "node:https";
import process from "node:process";
import { type BodyWay, serveDir, withSendfile } from "../../../http/mod.ts";
import { sendfileStats } from "../../../mod.ts";
import { bytes, folder, openBelow } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import { ask, assertSame, Client, parseMultipart, request } from "../../support/http_client.ts";
import type { BunGlobal } from "../../support/http_servers.ts";
import { MIB, missing, until } from "../../support/site.ts";
import { codeOf } from "../../../reasons.ts";

const BUN = { only: "bun" } as const;
const FILES: Record<string, Buffer> = {
  "at.bin": Buffer.from(bytes(MIB, 2)),
  "below.bin": Buffer.from(bytes(MIB - 1, 3)),
  "large.bin": Buffer.from(bytes(3 * MIB + 1)),
  "small.txt": Buffer.from("small"),
};
const LARGE = FILES["large.bin"];
const NATIVE: BodyWay = { via: "native" };
const native = (reason: string): BodyWay => ({ via: "native", reason, code: codeOf(reason) });

type BunServe = (options: Record<string, unknown>) => ReturnType<BunGlobal["serve"]>;
type Handler = (request: Request, server: unknown) => Response | Promise<Response>;

interface Place {
  readonly root: string;
  readonly port: number;
  readonly ways: BodyWay[];
}

async function withFiles(body: (root: string) => Promise<void>): Promise<void> {
  const root = fs.realpathSync(folder());
  try {
    for (const [name, content] of Object.entries(FILES)) fs.writeFileSync(join(root, name), content);
    await body(root);
    await until(() => openBelow(root).length === 0, "the files to be closed");
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

/** Runs `body` with a Bun.serve of `handler` inside withSendfile. The counters must say what onBody was told. */
function serving(
  body: (place: Place) => Promise<void>,
  { handler, listen = {}, rateLimit }: {
    handler?: (files: (request: Request) => Promise<Response>) => Handler;
    listen?: Record<string, unknown>;
    rateLimit?: number;
  } = {},
): Promise<void> {
  return withFiles(async (root) => {
    const ways: BodyWay[] = [];
    const before = sendfileStats();
    const files = (request: Request) => serveDir(request, { fsRoot: root, quiet: true, rateLimit });
    const server = (globalThis as unknown as { Bun: { serve: BunServe } }).Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      development: false,
      error: () => new Response("failed", { status: 500 }),
      ...listen,
      fetch: withSendfile(handler?.(files) ?? files, { onBody: (way) => ways.push(way) }),
    });
    try {
      await body({ root, port: server.port, ways });
    } finally {
      await server.stop(true);
    }
    const after = sendfileStats();
    assertEquals(after.native.transfers - before.native.transfers, ways.length);
    const fast = ways.filter(({ reason }) => reason === undefined).length;
    assertEquals(after.native.sendfile - before.native.sendfile, fast);
    for (const { reason } of ways) {
      if (reason === undefined) continue;
      const told = ways.filter((way) => way.reason === reason).length;
      assertEquals((after.reasons[reason] ?? 0) - (before.reasons[reason] ?? 0), told, reason);
    }
  });
}

test(
  "Bun.serve: files leave by its own sendfile(2) from 1 MiB up, and the small ones untold",
  () =>
    serving(async ({ port, ways }) => {
      const client = await Client.to(port);
      for (const [name, content] of Object.entries(FILES)) {
        client.send(request(`/${name}`));
        assertSame((await client.reply()).body, content, name);
      }
      client.close();
      assertEquals(ways, [NATIVE, native("Bun.serve copies bodies below 1 MiB"), NATIVE]);
    }),
  BUN,
);

test(
  "Bun.serve: a range counts by its own length, and is one whatever If-Range says",
  () =>
    serving(async ({ port, ways }) => {
      const part = await ask(port, "/large.bin", { fields: "Range: bytes=5-2000004\r\n" });
      assertEquals([part.status, part.headers["content-range"]], [206, `bytes 5-2000004/${LARGE.length}`]);
      assertSame(part.body, LARGE.subarray(5, 2_000_005), "the range");
      assertSame(
        (await ask(port, "/large.bin", { fields: "Range: bytes=-10\r\n" })).body,
        LARGE.subarray(-10),
        "end",
      );
      const half = await ask(port, "/large.bin", { fields: "Range: bytes=-500000\r\n" });
      assertSame(half.body, LARGE.subarray(-500_000), "the smaller range");
      const old = await ask(port, "/large.bin", { fields: 'Range: bytes=0-5\r\nIf-Range: "old"\r\n' });
      assertEquals(old.status, 200);
      assertSame(old.body, LARGE, "all");
      assertEquals(ways, [NATIVE, native("Bun.serve copies bodies below 1 MiB"), NATIVE]);
    }),
  BUN,
);

test(
  "Bun.serve: bodies that it cannot send as a file are copied, with the reason",
  () =>
    serving(async ({ port, ways }) => {
      const several = await ask(port, "/large.bin", { fields: "Range: bytes=0-1999999,-1000000\r\n" });
      const parts = parseMultipart(several.headers["content-type"], several.body);
      assertSame(parts[0].body, LARGE.subarray(0, 2_000_000), "the first part");
      assertSame(parts[1].body, LARGE.subarray(-1_000_000), "the second part");
      const { headers: { etag } } = await ask(port, "/large.bin", { method: "HEAD" });
      const rest = await ask(port, "/large.bin", { fields: `Range: bytes=9-\r\nIf-Range: ${etag}\r\n` });
      assertSame(rest.body, LARGE.subarray(9), "the rest");
      assertEquals(ways, [
        native("Bun.serve cannot send several ranges of a file"),
        native("Bun.serve would open the path again, and could find another file"),
      ]);
    }),
  BUN,
);

test("Bun.serve: a rate limit is copied", () =>
  serving(async ({ port, ways }) => {
    assertSame((await ask(port, "/large.bin")).body, LARGE, "the file");
    assertEquals(ways, [native("Bun.serve cannot limit the rate of a file")]);
  }, { rateLimit: 1e9 }), BUN);

test("Bun.serve: TLS is copied", () =>
  serving(async ({ port, ways }) => {
    const body = await new Promise<Buffer>((resolve, reject) => {
      https.get({ host: "127.0.0.1", port, path: "/large.bin", rejectUnauthorized: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => resolve(Buffer.concat(chunks)));
      }).on("error", reject);
    });
    assertSame(body, LARGE, "the file");
    assertEquals(ways, [native("TLS")]);
  }, {
    listen: {
      tls: {
        cert: fs.readFileSync(join(import.meta.dirname!, "../../tls/cert.pem")),
        key: fs.readFileSync(join(import.meta.dirname!, "../../tls/key.pem")),
      },
    },
  }), BUN);

test(
  "Bun.serve: a new Response of the same body is the file still, and another body is not",
  () =>
    serving(async ({ port, ways }) => {
      const { headers, body } = await ask(port, "/large.bin");
      assertEquals(headers["x-own"], "yes");
      assertSame(body, LARGE, "the file");
      assertEquals(String((await ask(port, "/large.bin?other")).body), "another");
      assertEquals(ways, [NATIVE]);
    }, {
      handler: (files) => async (request) => {
        const response = await files(request);
        const made = new Response(request.url.endsWith("?other") ? "another" : response.body, response);
        if (request.url.endsWith("?other")) made.headers.delete("content-length");
        made.headers.set("X-Own", "yes");
        return made;
      },
    }),
  BUN,
);

test("Bun.serve: a handler that is called without the server says so", () =>
  withFiles(async (root) => {
    const ways: BodyWay[] = [];
    const handler = withSendfile((request) => serveDir(request, { fsRoot: root, quiet: true }), {
      onBody: (way) => ways.push(way),
    });
    const response = await handler(new Request("http://localhost/large.bin"));
    assertSame(Buffer.from(await response.arrayBuffer()), LARGE, "the file");
    assertEquals(ways, [native("the handler was not given Bun's server")]);
  }), BUN);

test(
  "Bun.serve: an error of onBody is the handler's, and the file is closed",
  () =>
    withFiles(async (root) => {
      const handler = withSendfile(
        (request: Request) => serveDir(request, { fsRoot: root, quiet: true, rateLimit: 1e6 }),
        {
          onBody() {
            throw new Error("no way");
          },
        },
      );
      for (let i = 0; i < 3; i++) {
        const error = await Promise.resolve(handler(new Request("http://localhost/large.bin"))).catch((
          error,
        ) => error);
        assertEquals(String(error), "Error: no way");
      }
    }),
  BUN,
);

const SCRIPT = `
import { serveDir, withSendfile } from "${new URL("../../../http/mod.ts", import.meta.url)}";
const onBody = (way, { url }) => console.log(JSON.stringify([new URL(url).pathname, way]));
const fetch = withSendfile((request) => serveDir(request, { fsRoot: ".", quiet: true }), { onBody });
console.log("port " + Bun.serve({ hostname: "127.0.0.1", port: 0, fetch }).port);
`;

test(
  "strace: Bun.serve sends the bodies by sendfile(2) that are told to go so, and no others",
  () =>
    withFiles(async (root) => {
      fs.writeFileSync(join(root, "serve.js"), SCRIPT);
      const trace = join(root, "trace");
      const strace = ["-D", "-f", "-s", "0", "-e", "trace=sendfile", "-o", trace];
      const child: ChildProcess = spawn("strace", [...strace, process.execPath, "serve.js"], { cwd: root });
      let output = "";
      child.stdout!.on("data", (chunk) => output += chunk);
      try {
        const port = Number(await until(() => /^port (\d+)$/m.exec(output)?.[1], "the port"));
        for (const name of ["below.bin", "at.bin", "large.bin"]) {
          assertSame((await ask(port, `/${name}`)).body, FILES[name], name);
          const line = await until(() => output.split("\n").find((line) => line.includes(name)), "the way");
          const [, way] = JSON.parse(line) as [string, BodyWay];
          const moved = () =>
            [...fs.readFileSync(trace, "utf8").matchAll(/sendfile\(.* = (\d+)/g)]
              .reduce((sum, [, count]) => sum + Number(count), 0);
          const expected = way.reason === undefined ? FILES[name].length : 0;
          await until(() => moved() === expected, `${expected} bytes of ${name} by sendfile`);
          fs.truncateSync(trace, 0);
        }
        assert(output.includes('"/below.bin",{"via":"native","reason"'), output);
      } finally {
        child.kill("SIGKILL");
      }
    }),
  { ...BUN, skip: missing("strace") },
);
