/** The example that resumes a download, against servers that break off, change the file, or send what was not asked. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import * as net from "node:net";
import { sendFile } from "../../http/node.ts";
import { bytes, folder } from "../support/data.ts";
import { Example } from "../support/example.ts";
import { test } from "../support/harness.ts";
import { startNode } from "../support/http_servers.ts";
import { assertSame } from "../support/http_client.ts";
import { MIB, until } from "../support/site.ts";

const OLD = Buffer.from(bytes(5 * MIB + 1));
const NEW = Buffer.from(bytes(4 * MIB + 1, 2));

type Listener = (request: IncomingMessage, response: ServerResponse) => unknown;

/** A file's server behind one that cuts connections, and where a client is to put what it gets. */
interface Place {
  readonly served: string;
  readonly target: string;
  /** Range and If-Range of each request. */
  readonly asked: (readonly [range: string | undefined, ifRange: string | undefined])[];
  readonly cuts: Cuts;
  /** Answers the requests. */
  listener: Listener;
  /** Starts the example. */
  start(path?: string, ...args: string[]): Example;
  /** Runs the example to its end; resolves to what it printed. */
  run(code: number, path?: string, ...args: string[]): Promise<string>;
  /** The first byte that each request asked for. */
  starts(): number[];
}

/** Where connections are cut. */
interface Cuts {
  /** For each next connection, the bytes of the response that it passes on; then all. */
  readonly after: number[];
  /** Whether a connection stays open then. */
  stall: boolean;
}

/** Passes connections on to a port, each up to where it is to be cut. */
async function cutting(port: number, cuts: Cuts): Promise<net.Server> {
  const server = net.createServer((client) => {
    let left = cuts.after.shift() ?? Infinity;
    const upstream = net.connect(port, "127.0.0.1");
    upstream.on("data", (chunk: Buffer) => {
      client.write(chunk.subarray(0, left));
      left = Math.max(0, left - chunk.length);
      if (left > 0) return;
      upstream.pause();
      if (!cuts.stall) client.end();
    });
    upstream.on("close", () => client.end());
    client.on("data", (chunk) => upstream.write(chunk));
    client.on("close", () => upstream.destroy());
    for (const socket of [client, upstream]) socket.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

async function serving(body: (place: Place) => Promise<void>): Promise<void> {
  const root = folder();
  const examples: Example[] = [];
  const place: Place = {
    served: join(root, "served.bin"),
    target: join(root, "got.bin"),
    asked: [],
    cuts: { after: [], stall: false },
    listener: (request, response) => sendFile(request, response, place.served),
    start(path = "/file", ...args) {
      const example = new Example("resume", `${url}${path}`, place.target, ...args);
      examples.push(example);
      return example;
    },
    async run(code, path, ...args) {
      const example = place.start(path, ...args);
      assertEquals(await example.exit(), code, example.output);
      return example.output;
    },
    starts: () => place.asked.map(([range]) => Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0)),
  };
  fs.writeFileSync(place.served, OLD);
  const server = await startNode((request, response) => {
    place.asked.push([request.headers.range, request.headers["if-range"]?.toString()]);
    return place.listener(request, response);
  });
  const proxy = await cutting(server.port, place.cuts);
  const url = `http://127.0.0.1:${(proxy.address() as net.AddressInfo).port}`;
  try {
    await body(place);
  } finally {
    for (const example of examples) await example.stop();
    proxy.close();
    await server.close();
    fs.rmSync(root, { recursive: true });
  }
}

/** That the file is there, and nothing else is left of the download. */
function assertGot({ target, served }: Place, content: Buffer): void {
  assertSame(fs.readFileSync(target), content, "the file");
  assertEquals(fs.readdirSync(join(target, "..")).sort(), ["got.bin", "served.bin"]);
  assert(fs.existsSync(served));
}

test("the resume example goes on where each cut connection ended", () =>
  serving(async (place) => {
    place.cuts.after.push(MIB, MIB, 2 * MIB);
    const output = await place.run(0);
    assertGot(place, OLD);
    const starts = place.starts();
    assertEquals(starts.length, 4);
    assertEquals(starts[0], 0);
    for (let i = 1; i < 4; i++) {
      assert(starts[i] > starts[i - 1], `${starts}`);
      assertStringIncludes(output, `resumed at byte ${starts[i]} of ${OLD.length}`);
    }
    const tags = place.asked.map(([, ifRange]) => ifRange);
    assertEquals(tags[0], undefined);
    assert(/^"[^"]+"$/.test(tags[1]!) && tags[1] === tags[2] && tags[2] === tags[3], `${tags}`);
  }));

test("the resume example goes on in a later run, after one that gave up", () =>
  serving(async (place) => {
    // After the first, none brings even a head.
    place.cuts.after.push(3 * MIB, ...Array(20).fill(20));
    assertStringIncludes(await place.run(1), "gave up: the next run goes on at byte ");
    assert(!fs.existsSync(place.target), "a part is there by the name of the whole");
    const { size } = fs.statSync(`${place.target}.part`);
    assert(size > 0 && size < 3 * MIB, `${size} bytes are there`);
    place.cuts.after.length = place.asked.length = 0;
    assertStringIncludes(await place.run(0), `resumed at byte ${size} of ${OLD.length}`);
    assertEquals(place.starts(), [size]);
    assertGot(place, OLD);
  }));

test("the resume example goes on in a later run, after one that was killed", () =>
  serving(async (place) => {
    place.cuts.after.push(3 * MIB);
    place.cuts.stall = true;
    const killed = place.start();
    const size = () => fs.statSync(`${place.target}.part`, { throwIfNoEntry: false })?.size ?? 0;
    await until(() => size() > 2 * MIB, "some bytes");
    await killed.stop();
    place.asked.length = 0;
    const start = size();
    await place.run(0);
    assertEquals(place.starts(), [start]);
    assertGot(place, OLD);
  }));

test("the resume example gives a connection up that brings nothing, and goes on with another", () =>
  serving(async (place) => {
    place.cuts.after.push(3 * MIB);
    place.cuts.stall = true;
    const output = await place.run(0, "/file", "1");
    assertStringIncludes(output, "nothing came for 1 s");
    assert(place.starts().length === 2 && place.starts()[1] > 0, `${place.starts()}`);
    assertGot(place, OLD);
  }));

test("the resume example begins again where more has come than there is", () =>
  serving(async (place) => {
    place.cuts.after.push(3 * MIB, ...Array(20).fill(20));
    await place.run(1);
    place.cuts.after.length = place.asked.length = 0;
    fs.writeFileSync(`${place.target}.part`, Buffer.concat([OLD, NEW]));
    await place.run(0);
    assertEquals(place.starts(), [0]);
    assertGot(place, OLD);
  }));

test("the resume example begins again where the file has changed in between", () =>
  serving(async (place) => {
    place.cuts.after.push(3 * MIB);
    place.listener = (request, response) => {
      if (place.asked.length === 2) {
        fs.writeFileSync(`${place.target}.new`, NEW);
        fs.renameSync(`${place.target}.new`, place.served);
      }
      return sendFile(request, response, place.served);
    };
    const output = await place.run(0);
    assert(place.starts().length === 2 && place.starts()[1] > 0, "it did not ask for the rest");
    assert(!output.includes("resumed"), output);
    assertStringIncludes(output, `started at byte 0 of ${NEW.length}`);
    assertGot(place, NEW);
  }));

for (const wrong of ["tag", "start", "size"] as const) {
  test(`the resume example takes no part of another ${wrong} than was asked for`, () =>
    serving(async (place) => {
      place.cuts.after.push(3 * MIB);
      place.listener = (request, response) => {
        if (place.asked.length !== 2) return sendFile(request, response, place.served);
        const start = place.starts()[1] + (wrong === "start" ? 1 : 0);
        const size = OLD.length - (wrong === "size" ? 1 : 0);
        const tag = place.asked[1][1]!;
        response.writeHead(206, {
          "ETag": wrong === "tag" ? '"another"' : tag,
          "Content-Range": `bytes ${start}-${size - 1}/${size}`,
          "Content-Length": size - start,
        });
        response.end(NEW.subarray(0, size - start));
      };
      const output = await place.run(0);
      assertStringIncludes(output, "the server sent another part than the one that is missing");
      assertGot(place, OLD);
    }));
}

test("the resume example does not resume what has no strong tag", () =>
  serving(async (place) => {
    place.cuts.after.push(MIB);
    place.listener = (request, response) => {
      response.setHeader("ETag", 'W/"weak"');
      return sendFile(request, response, place.served);
    };
    await place.run(0);
    assertEquals(place.asked, [[undefined, undefined], [undefined, undefined]]);
    assertGot(place, OLD);
  }));

test("the resume example leaves nothing behind where there is no file", () =>
  serving(async (place) => {
    place.listener = (_request, response) => response.writeHead(404).end();
    assertStringIncludes(await place.run(1), "the server answered 404");
    assertEquals(place.asked.length, 1);
    assertEquals(fs.readdirSync(join(place.target, "..")), ["served.bin"]);
  }));
