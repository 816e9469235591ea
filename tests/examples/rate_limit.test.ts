/** The example that limits each user: two users at once, and more downloads than a user may have. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { bytes, folder } from "../support/data.ts";
import { withExample } from "../support/example.ts";
import { test } from "../support/harness.ts";
import { ask, assertSame, Client, type Reply, request } from "../support/http_client.ts";
import { MIB, until } from "../support/site.ts";

const CONTENT = Buffer.from(bytes(3 * MIB));

/** In the example: bytes per second of all downloads together. */
const RATE = { ann: 4 * MIB, bob: 1 * MIB };

const token = (name: string) => ({ fields: `Authorization: Bearer secret-of-${name}\r\n` });

async function withUsers(body: (port: number) => Promise<void>): Promise<void> {
  const root = folder();
  fs.writeFileSync(join(root, "large.bin"), CONTENT);
  fs.writeFileSync(join(root, "long.bin"), Buffer.alloc(64 * MIB));
  fs.writeFileSync(join(root, "small.txt"), "some text");
  try {
    await withExample(["rate_limit", root, "0"], async (example) => body(await example.port()));
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

test("the rate_limit example sends to each user at a rate of their own", () =>
  withUsers(async (port) => {
    const since = performance.now();
    const isOver: string[] = [];
    const whole = async (name: keyof typeof RATE, share: number) => {
      const { body } = await ask(port, "/large.bin", token(name));
      isOver.push(name);
      assertSame(body, CONTENT, `${name}'s file`);
      // A tenth of a second's worth goes at once.
      const least = 1000 * (CONTENT.length / (RATE[name] * share) - 0.1);
      const time = performance.now() - since;
      assert(time >= 0.95 * least, `${name}'s file took ${time} ms, ${least} is what the rate allows`);
    };
    await Promise.all([whole("bob", 1), whole("ann", 1 / 2), whole("ann", 1 / 2)]);
    assertEquals(isOver, ["ann", "ann", "bob"]);
  }));

/** A user's download that has begun, and is not read further. */
function begin(port: number, name: string): Promise<Client> {
  return until(async () => {
    const client = await Client.to(port);
    client.send(request("/long.bin", token(name)));
    await client.begun();
    if (client.seen().startsWith("HTTP/1.1 200 ")) return client;
    client.close(); // refused, until the one before is known to be over
  }, `a download of ${name}'s`);
}

/** What the user gets once no download is in the way. */
function whenFree(port: number, name: string, path: string): Promise<Reply> {
  return until(async () => {
    const reply = await ask(port, path, token(name));
    return reply.status !== 429 && reply;
  }, `${name}'s downloads to be over`);
}

test("the rate_limit example refuses a user more downloads than are allowed, and nobody else", () =>
  withUsers(async (port) => {
    const bob = await begin(port, "bob");
    const { status, headers, body } = await ask(port, "/small.txt", token("bob"));
    assertEquals([status, headers["retry-after"]], [429, "1"]);
    assertEquals(String(body), "at most 1 downloads at a time\n");
    assertEquals((await ask(port, "/small.txt", token("ann"))).status, 200);
    const ann = [await begin(port, "ann"), await begin(port, "ann")];
    assertEquals((await ask(port, "/small.txt", token("ann"))).status, 429);
    // One of them leaves, which ends that download alone.
    ann[0].close();
    assertEquals(String((await whenFree(port, "ann", "/small.txt")).body), "some text");
    assertEquals((await ask(port, "/small.txt", token("bob"))).status, 429);
    bob.close();
    for (const path of ["/small.txt", "/missing", "/..%2fexample", "/small.txt"]) {
      const { status } = await whenFree(port, "bob", path);
      assertEquals(status, path === "/small.txt" ? 200 : 404, path);
    }
    ann[1].close();
  }));

test("the rate_limit example refuses who is nobody", () =>
  withUsers(async (port) => {
    for (const fields of ["", "Authorization: Basic secret-of-ann\r\n", token("eve").fields]) {
      const { status, headers, body } = await ask(port, "/small.txt", { fields });
      assertEquals([status, headers["www-authenticate"]], [401, "Bearer"]);
      assertEquals(String(body), "say who you are\n");
    }
    assertEquals(String((await ask(port, "/small.txt", token("ann"))).body), "some text");
  }));
