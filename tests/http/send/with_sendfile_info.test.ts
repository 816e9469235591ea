/** Where withSendfile takes the connection from, when a framework calls the handler with the request alone. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { type BodyWay, serveDir, withSendfile } from "../../../http/mod.ts";
import { whyNotSendfile } from "../../../mod.ts";
import { bytes } from "../../support/data.ts";
import { inDirectory } from "../../support/each_server.ts";
import { test } from "../../support/harness.ts";
import { ask } from "../../support/http_client.ts";

/** Large enough to be worth the search through the descriptors that other tests of this process have had open. */
const CONTENT = Buffer.from(bytes(8_000_000));

/** What came of a file's body where `call` hands the request on. */
function wayOf(
  call: (
    handler: (request: Request) => Promise<Response>,
    request: Request,
    info: unknown,
  ) => Promise<Response>,
): Promise<BodyWay[]> {
  const ways: BodyWay[] = [];
  return inDirectory(async (base) => {
    fs.writeFileSync(join(base, "a.bin"), CONTENT);
    const handler = withSendfile(
      (request: Request) => serveDir(request, { fsRoot: base, quiet: true }),
      { threshold: 0, onBody: (way) => ways.push(way) },
    ) as (request: Request) => Promise<Response>;
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      (request, info) => call(handler, request, info),
    );
    try {
      const { body } = await ask(server.addr.port, "/a.bin");
      assert(body.equals(CONTENT));
    } finally {
      await server.shutdown();
    }
  }).then(() => ways);
}

test("withSendfile finds the connection on the request, as srvx sets it", async () => {
  const ways = await wayOf((handler, request, info) => {
    Object.defineProperty(request, "runtime", { enumerable: true, value: { name: "deno", deno: { info } } });
    return handler(request);
  });
  assertEquals(ways.map(({ via }) => via), ["sendfile"]);
}, { only: "deno", skip: whyNotSendfile() });

test("withSendfile gives the reason if it is not told the connection", async () => {
  const ways = await wayOf((handler, request) => handler(request));
  assertEquals(ways, [
    { via: "native", reason: "the handler was not given the connection's address", code: "no-address" },
  ]);
}, { only: "deno", skip: whyNotSendfile() });

test("withSendfile accepts a framework's own kind of request", async () => {
  const ways = await wayOf((handler, request, info) => {
    const own = { url: request.url, method: request.method, headers: request.headers } as Request;
    return (handler as (request: Request, info: unknown) => Promise<Response>)(own, info);
  });
  assertEquals(ways.map(({ via }) => via), ["sendfile"]);
}, { only: "deno", skip: whyNotSendfile() });
