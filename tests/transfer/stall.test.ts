/** Clients that take a response slowly, which is no reason to cut them off, and clients that take nothing. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import * as net from "node:net";
import type { ResponsePlan } from "../../http/file_response.ts";
import { planDirectory } from "../../http/directory.ts";
import { serveDir, withSendfile } from "../../http/mod.ts";
import { serveStatic } from "../../http/node.ts";
import { resolveDirectoryOptions } from "../../http/options.ts";
import { parseTarget } from "../../http/root/request_target.ts";
import { replaceStallLimit } from "../../http/send/stall.ts";
import { SendfileTimeoutError } from "../../errors.ts";
import { sendfile, sendfileSync } from "../../mod.ts";
import type { Head } from "../../server/request_head.ts";
import { FileServer } from "../../server/server.ts";
import { bytes, folder, openBelow } from "../support/data.ts";
import { test, type TestOptions } from "../support/harness.ts";
import { assertSame, request } from "../support/http_client.ts";
import { collecting, type Running, startNode } from "../support/http_servers.ts";
import { until } from "../support/site.ts";
import { SlowClient } from "../children/slow_client.ts";

const LINUX: TestOptions = fs.existsSync("/proc/self/fd") ? {} : { skip: "asks Linux's TCP_INFO" };

/** Milliseconds for which a client may take nothing. */
const LIMIT = 800;

/** Bytes a second that a slow client takes, which empties a third of no socket buffer within the limit. */
const RATE = 24 * 1024;

const CONTENT = Buffer.from(bytes(6 * 1024 * 1024 + 1, 77));

/** A server of one file, `/file`, and what its log says of each response. */
interface Place extends Omit<Running, "name"> {
  readonly log: string[];
}

interface Server {
  readonly name: string;
  /** How the file goes; "-": it is taken for a text of the server's own. */
  readonly via: "sendfile" | "-";
  readonly only?: "deno";
  /** Its log says no more than the way. */
  readonly terse?: true;
  start(root: string): Promise<Place>;
}

function fileServer(
  plan: (requestHead: Head, root: string) => ResponsePlan | Promise<ResponsePlan>,
): Server["start"] {
  return (root) => {
    const [log, errors]: [string[], unknown[]] = [[], []];
    const server = new FileServer({
      resolved,
      plan: (requestHead) => plan(requestHead, root),
      onSent: (_request, { way, problem = "complete" }) => log.push(`${way}: ${problem}`),
      onError: (error) => errors.push(error),
    });
    const port = server.listen({ host: "127.0.0.1", port: 0, shared: false });
    return Promise.resolve({ port, log, errors, close: () => Promise.resolve(server.close()) });
  };
}

const resolved = resolveDirectoryOptions({});

const servers: readonly Server[] = [
  {
    name: "FileServer",
    via: "sendfile",
    start: fileServer((requestHead, root) =>
      planDirectory(requestHead, resolved, root, parseTarget(requestHead.target))
    ),
  },
  {
    name: "FileServer with a text of its own",
    via: "-",
    start: fileServer(() => ({
      status: 200,
      headers: { "Content-Length": String(CONTENT.length) },
      body: CONTENT,
    })),
  },
  {
    name: "node:http",
    via: "sendfile",
    async start(root) {
      const log: string[] = [];
      const listener = serveStatic(root, {
        onSent: ({ way, problem = "complete" }) => log.push(`${way}: ${problem}`),
      });
      return { ...await startNode(listener), log };
    },
  },
  {
    name: "withSendfile",
    via: "sendfile",
    only: "deno",
    terse: true,
    start(root) {
      const [log, errors]: [string[], unknown[]] = [[], []];
      const ending = new AbortController();
      const server = Deno.serve(
        { ...collecting(errors), signal: ending.signal },
        withSendfile((request) => serveDir(request, { fsRoot: root, quiet: true }), {
          onBody: ({ via }) => void log.push(via),
        }),
      );
      return Promise.resolve({
        port: server.addr.port,
        log,
        errors,
        close() {
          ending.abort();
          return server.finished;
        },
      });
    },
  },
];

async function serving(
  { start }: Server,
  body: (place: Place, root: string) => Promise<void>,
): Promise<void> {
  const root = fs.realpathSync(folder());
  fs.writeFileSync(join(root, "file"), CONTENT);
  replaceStallLimit(LIMIT);
  try {
    const place = await start(root);
    try {
      await body(place, root);
      await until(() => openBelow(root).length === 0, "the file to be closed");
      assertEquals(place.errors, []);
    } finally {
      await place.close();
    }
  } finally {
    replaceStallLimit(undefined);
    fs.rmSync(root, { recursive: true });
  }
}

for (const server of servers) {
  const options = { ...LINUX, only: server.only };

  test(
    `${server.name}: a client that reads steadily and slowly is not cut off`,
    () =>
      serving(server, async ({ port, log }) => {
        using client = new SlowClient(port);
        client.send(request("/file", { fields: "Connection: close\r\n" }));
        await client.steadily(RATE, 4 * LIMIT);
        assert(!client.ended && client.length < CONTENT.length / 10, `${client.length} bytes were taken`);
        const all = await client.all();
        assertSame(all.subarray(all.indexOf("\r\n\r\n") + 4), CONTENT, "what came slowly");
        const complete = server.terse ? server.via : `${server.via}: complete`;
        await until(() => log.includes(complete), `${complete} in the log, which is ${log}`);
      }),
    options,
  );

  test(
    `${server.name}: a client that takes nothing is given up as stalled, which is nobody's error`,
    () =>
      serving(server, async ({ port, log }, root) => {
        using client = new SlowClient(port);
        const began = performance.now();
        client.send(request("/file"));
        await until(() => log.length > 0, "the response");
        await until(() => openBelow(root).length === 0, "its end");
        assert(performance.now() - began >= LIMIT, "it was given up early");
        const stalled = `${server.via}: the client stalled: no byte could be sent for 800 ms`;
        assertStringIncludes(log[0], server.terse ? server.via : stalled);
        const all = await client.all();
        assert(all.length < CONTENT.length, "all of it came");
        const body = all.subarray(all.indexOf("\r\n\r\n") + 4);
        assertSame(body, CONTENT.subarray(0, body.length), "what had left before");
      }),
    options,
  );
}

// sendfile() itself

/** A connection whose peer takes what it is told to, and that no server knows. */
async function connection(body: (socket: net.Socket, client: SlowClient) => Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<net.Socket>();
  const server = net.createServer(resolve);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  using client = new SlowClient((server.address() as net.AddressInfo).port);
  const socket = await promise;
  try {
    await body(socket, client);
  } finally {
    socket.destroy();
    server.close();
  }
}

async function withFile(body: (path: string) => Promise<void>): Promise<void> {
  const root = folder();
  const path = join(root, "file");
  fs.writeFileSync(path, CONTENT);
  try {
    await body(path);
    assertEquals(openBelow(root), []);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

for (const zeroCopy of [true, false]) {
  const way = zeroCopy ? "sendfile" : "copy";

  test(
    `the timeout of a ${way} does not end it while the peer acknowledges bytes`,
    () =>
      withFile((path) =>
        connection(async (socket, client) => {
          let last = performance.now();
          let longest = 0;
          const onProgress = () => {
            const now = performance.now();
            longest = Math.max(longest, now - last);
            last = now;
          };
          const sending = sendfile(socket, path, { zeroCopy, timeout: LIMIT, onProgress });
          sending.catch(() => {});
          await client.steadily(RATE, 4 * LIMIT);
          const all = client.all(CONTENT.length);
          assertEquals(await sending, CONTENT.length);
          assertSame(await all, CONTENT, "what came slowly");
          assert(longest > LIMIT, `${longest} ms without a byte sent were the most: no timeout was due`);
        })
      ),
    LINUX,
  );

  test(
    `the timeout of a ${way} ends it where the peer stops to take anything`,
    () =>
      withFile((path) =>
        connection(async (socket, client) => {
          const began = performance.now();
          const sending = sendfile(socket, path, { zeroCopy, timeout: LIMIT });
          const ended = sending.then(() => undefined, (error) => error);
          await client.steadily(RATE, 2 * LIMIT);
          const error = await ended;
          assert(error instanceof SendfileTimeoutError, String(error));
          // Counted from the call: the last acknowledgement is older than the last read.
          assert(performance.now() - began >= 2 * LIMIT, "it was ended early");
          assert(error.sent < CONTENT.length, String(error.sent));
        })
      ),
    LINUX,
  );
}

test(
  "sendfileSync is ended where the peer takes nothing",
  () =>
    withFile((path) =>
      connection((socket, client) => {
        const before = client.take(1);
        assertEquals(before, -1);
        const error = assertThrows(() => sendfileSync(socket, path, { timeout: 100 }), SendfileTimeoutError);
        assert(error.sent > 0 && error.sent < CONTENT.length, String(error.sent));
        return Promise.resolve();
      })
    ),
  LINUX,
);
