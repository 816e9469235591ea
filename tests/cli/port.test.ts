/** The port: what is taken where none was asked for. */
import { assert, assertEquals } from "@std/assert";
import * as net from "node:net";
import { test } from "../support/harness.ts";
import { ask } from "../support/http_client.ts";
import { Server } from "../support/site.ts";

/** Listens on `port`; undefined where somebody else does. */
function hold(port: number): Promise<net.Server | undefined> {
  return new Promise((resolve) => {
    const holder = net.createServer();
    holder.once("error", () => resolve(undefined));
    holder.listen(port, "127.0.0.1", () => resolve(holder));
  });
}

test("serve takes the next free port if 8000 is taken and no port was given", async () => {
  // Whether by this test or by somebody else, 8000 is taken now.
  const holder = await hold(8000);
  const server = new Server({ args: ["--host", "127.0.0.1", import.meta.dirname!] });
  try {
    await server.listening();
    assert(server.port > 8000 && server.port < 8100, server.lines.join("\n"));
    assertEquals(server.lines[1], `http://127.0.0.1:${server.port}/`);
    assertEquals((await ask(server.port, "/port.test.ts")).status, 200);
    assertEquals(server.errors, "");
  } finally {
    await server.stop();
    holder?.close();
  }
});

test("serve fails if port 8000 was given and is in use", async () => {
  const holder = await hold(8000);
  const server = new Server({ args: ["--host", "127.0.0.1", "-p", "8000", import.meta.dirname!] });
  try {
    assertEquals(await server.exit(), 1);
    assertEquals(server.errors, "error: cannot listen on 127.0.0.1:8000: the port is in use\n");
  } finally {
    await server.stop();
    holder?.close();
  }
});
