/** What a handler of `serve` learns of its client: the address, that the response has gone, that the client has left. */
import { assertEquals } from "@std/assert";
import type { ServeHandler } from "../../serve.ts";
import { test } from "../support/harness.ts";
import { Client } from "../support/http_client.ts";
import { exchange, served, withServed } from "../support/served_twice.ts";
import { until } from "../support/site.ts";

test("serve tells the client's address and when a response has gone", async () => {
  const completed: Promise<void>[] = [];
  const tell: ServeHandler = (_, info) => {
    completed.push(info.completed);
    const { transport, hostname, port } = info.remoteAddr;
    return Response.json([transport, hostname, port]);
  };
  await withServed(served(tell), async ({ port }) => {
    const client = await Client.to(port);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assertEquals(JSON.parse(String((await client.reply()).body)), [
      "tcp",
      "127.0.0.1",
      client.socket.localPort,
    ]);
    await completed[0];
    client.close();
  });
});

test("serve tells by completed that a response did not get through", async () => {
  const completed: Promise<unknown>[] = [];
  const endless: ServeHandler = (_, info) => {
    completed.push(info.completed.then(() => "sent", (error) => error.name));
    return new Response(
      new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536)) }),
    );
  };
  await withServed(served(endless), async ({ port }) => {
    const client = await Client.to(port);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    await client.begun();
    client.socket.resetAndDestroy();
    assertEquals(await completed[0], "Interrupted");
  });
}, { only: "deno" });

for (const how of ["a reset", "an end"]) {
  test(`serve aborts request.signal where the client leaves by ${how}`, async () => {
    const signals: AbortSignal[] = [];
    const never: ServeHandler = (request) => {
      signals.push(request.signal);
      return new Promise(() => {});
    };
    await withServed(served(never), async ({ port }) => {
      const client = await Client.to(port);
      client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
      await until(() => signals.length === 1, "the request");
      assertEquals(signals[0].aborted, false);
      if (how === "a reset") client.socket.resetAndDestroy();
      else client.close();
      await until(() => signals[0].aborted, "the signal");
      assertEquals((signals[0].reason as Error).name, "AbortError");
    });
  });
}

test("serve leaves request.signal alone where the response has come through", async () => {
  const signals: AbortSignal[] = [];
  const quick: ServeHandler = (request) => {
    signals.push(request.signal);
    return new Response("x");
  };
  await withServed(served(quick), async ({ port }) => {
    await exchange(
      port,
      "GET / HTTP/1.1\r\nHost: test\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    );
    await exchange(port, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assertEquals(signals.map(({ aborted }) => aborted), [false, false, false]);
  });
}, { only: "deno" });

for (const says of ["something", "nothing"]) {
  test(`serve cancels a stream that says ${says} where the client has left`, async () => {
    let begun = false;
    let cancelled = false;
    const endless: ServeHandler = () =>
      new Response(
        new ReadableStream({
          async pull(controller) {
            begun = true;
            if (says === "nothing") return new Promise(() => {});
            await new Promise((resolve) => setTimeout(resolve, 5));
            controller.enqueue(new Uint8Array(100));
          },
          cancel: () => void (cancelled = true),
        }, { highWaterMark: 0 }),
      );
    await withServed(served(endless), async ({ port }) => {
      const client = await Client.to(port);
      client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
      await until(() => begun, "the stream");
      client.close();
      await until(() => cancelled, "the stream to be cancelled");
    });
  });
}
