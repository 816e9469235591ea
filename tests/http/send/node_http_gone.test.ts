/** node:http's clients that leave or take nothing while a file is copied to them. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import * as https from "node:https";
import * as net from "node:net";
import process from "node:process";
import * as tls from "node:tls";
import { ConnectionClosedError } from "../../../errors.ts";
import { type Sent, serveStatic } from "../../../http/node.ts";
import { sendfile } from "../../../sendfile.ts";
import { bytes, folder, openBelow } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import { ask, assertSame, request } from "../../support/http_client.ts";
import { until } from "../../support/site.ts";

const MIB = 1024 * 1024;

/** More than the system's and the runtime's buffers of one connection take together. */
const READ_AHEAD = 24 * MIB;

const TLS = {
  cert: fs.readFileSync(join(import.meta.dirname!, "../../tls/cert.pem")),
  key: fs.readFileSync(join(import.meta.dirname!, "../../tls/key.pem")),
};

/** Runs `body` with a folder and a port of the server that `start` makes for it. */
async function withServer(
  start: (root: string) => net.Server,
  body: (port: number, root: string) => Promise<void>,
): Promise<void> {
  const root = folder();
  const server = start(root);
  try {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    await body((server.address() as net.AddressInfo).port, root);
    await until(() => openBelow(root).length === 0, "the files to be closed");
  } finally {
    (server as ReturnType<typeof createServer>).closeAllConnections();
    server.close();
    fs.rmSync(root, { recursive: true });
  }
}

/** Why each of `sent` has not arrived. */
const problems = (sent: readonly Sent[]) => new Set(sent.map(({ problem }) => problem));

test("node:http: of 60 clients that reset before their 100 MiB is sent none takes memory, and others are answered", async () => {
  const CLIENTS = 60;
  const sent: Sent[] = [];
  /** The client of the connection whose request arrives, by its port. */
  const clients = new Map<number, net.Socket>();
  await withServer((root) => {
    fs.writeFileSync(join(root, "small"), "small");
    fs.writeFileSync(join(root, "large"), "");
    fs.truncateSync(join(root, "large"), 100 * MIB);
    const serve = serveStatic(root, { onSent: (outcome) => sent.push(outcome) });
    return createServer((request: IncomingMessage, response: ServerResponse) => {
      const { remotePort } = request.socket;
      clients.get(remotePort!)?.resetAndDestroy(); // before the server can know
      serve(request, response);
    });
  }, async (port) => {
    const before = process.memoryUsage().rss;
    let most = before;
    for (let i = 0; i < CLIENTS; i++) {
      const client = net.connect(port, "127.0.0.1");
      client.on("error", () => {});
      client.once("connect", () => {
        clients.set(client.localPort!, client);
        client.write(request("/large"));
      });
    }
    let others = 0;
    await until(async () => {
      assertEquals(String((await ask(port, "/small")).body), "small");
      others++;
      most = Math.max(most, process.memoryUsage().rss);
      return sent.length === CLIENTS + others;
    }, "the end of all requests");
    const gone = sent.filter(({ problem }) => problem !== undefined);
    assertEquals(gone.length, CLIENTS, `${gone.length} of ${CLIENTS} are reported as gone`);
    assertEquals(problems(gone), new Set(["the client left"]));
    const read = gone.reduce((sum, { bytes }) => sum + bytes, 0);
    assert(read < CLIENTS * READ_AHEAD / 4, `${read} bytes were given to clients that had gone`);
    assert(most - before < 200 * MIB, `${(most - before) / MIB} MiB of memory were taken`);
  });
});

/** What the copying way of one request came to. */
interface Copy {
  progress: number;
  result: Promise<number>;
}

/** A listener that copies `path` to the request's own socket, whatever sendfile(2) could do. */
function copying(path: string, size: number, copies: Copy[]): RequestListener {
  return (request, response) => {
    response.writeHead(200, { "Content-Length": size });
    response.flushHeaders();
    const onProgress = (progress: number) => copy.progress = progress;
    const copy = { progress: 0, result: sendfile(request.socket, path, { zeroCopy: false, onProgress }) };
    copies.push(copy);
    copy.result.then(() => response.end(), () => {});
  };
}

/** Waits until the copy rests, since its client takes nothing. */
async function resting(copy: Copy): Promise<void> {
  let last = -1;
  let same = 0;
  await until(() => {
    same = copy.progress === last ? same + 1 : 0;
    last = copy.progress;
    return same === 40;
  }, "the copy to rest");
}

/** Between a client and a server: lets nothing of the server's through until it is told to. */
class Valve {
  readonly listener: net.Server;
  #upstream: net.Socket | undefined;

  constructor(port: number) {
    this.listener = net.createServer((client) => {
      const upstream = this.#upstream = net.connect({ port, host: "127.0.0.1" });
      for (const socket of [client, upstream]) socket.on("error", () => {});
      client.on("data", (chunk) => upstream.write(chunk));
      upstream.on("data", (chunk) => client.write(chunk));
      client.on("close", () => upstream.destroy());
      upstream.on("close", () => client.end());
    });
  }

  shut(): void {
    this.#upstream!.pause();
  }

  open(): void {
    this.#upstream!.resume();
  }

  close(): void {
    this.#upstream?.destroy();
    this.listener.close();
  }
}

const plain = (port: number) => net.connect({ port, host: "127.0.0.1" });
const secure = (port: number) => tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false });

/** A kind of server, and how one speaks with it. */
interface Kind {
  readonly name: string;
  serve(listener: RequestListener): net.Server;
  connect(port: number): net.Socket;
  /** The event after which requests can be sent. */
  readonly connected: string;
}

const KINDS: readonly Kind[] = [
  { name: "node:http", serve: (listener) => createServer(listener), connect: plain, connected: "connect" },
  {
    name: "node:https",
    serve: (listener) => https.createServer(TLS, listener),
    connect: secure,
    connected: "secureConnect",
  },
];

const SIZE = 48 * MIB + 1;

/** Runs `body` with a client that has asked and takes nothing, once the copy rests. */
async function withResting(
  { serve, connect, connected }: Kind,
  body: (client: { received: Buffer[]; valve: Valve }, copy: Copy, content: Buffer) => Promise<void>,
): Promise<void> {
  const copies: Copy[] = [];
  const content = Buffer.from(bytes(SIZE));
  let valve: Valve;
  await withServer((root) => {
    const path = join(root, "large");
    fs.writeFileSync(path, content);
    const listener = copying(path, SIZE, copies);
    return serve((request, response) => {
      valve.shut();
      listener(request, response);
    });
  }, async (port) => {
    valve = new Valve(port);
    await new Promise<void>((resolve) => valve.listener.listen(0, "127.0.0.1", resolve));
    const client = connect((valve.listener.address() as net.AddressInfo).port);
    try {
      const received: Buffer[] = [];
      client.on("error", () => {});
      client.on("data", (chunk: Buffer) => received.push(chunk));
      client.once(connected, () => client.write(request("/")));
      const copy = await until(() => copies[0], "the request");
      await resting(copy);
      assert(copy.progress < READ_AHEAD, `${copy.progress} bytes were read ahead`);
      await body({ received, valve }, copy, content);
    } finally {
      client.destroy();
      valve.close();
    }
  });
}

for (const kind of KINDS) {
  test(`${kind.name}: nothing is read ahead of a client that takes nothing, and all of it comes when it does`, () =>
    withResting(kind, async ({ received, valve }, copy, content) => {
      valve.open();
      assertEquals(await copy.result, SIZE);
      const head = await until(() => {
        const end = Buffer.concat(received.slice(0, 2)).indexOf("\r\n\r\n");
        return end < 0 ? undefined : end + 4;
      }, "the head");
      const length = () => received.reduce((sum, chunk) => sum + chunk.length, 0);
      await until(() => length() >= head + SIZE, "the body");
      assertSame(Buffer.concat(received).subarray(head), content, "the body");
    }));

  test(`${kind.name}: a client that leaves while it is waited for ends the copy`, () =>
    withResting(kind, async ({ valve }, copy) => {
      valve.close();
      const error = await assertRejects(() => copy.result, ConnectionClosedError);
      assert(error.sent < READ_AHEAD, `${error.sent} bytes are said to be sent`);
    }));
}
