/** Applications of frameworks as they are, given to `serve`. */
import { assertEquals } from "@std/assert";
import { Elysia } from "elysia";
import { H3 } from "h3";
import { Hono } from "hono";
import { serve, type ServeFetch } from "../../serve.ts";
import { test } from "../support/harness.ts";
import { Client, request } from "../support/http_client.ts";

const APPLICATIONS: Record<string, () => ServeFetch> = {
  Hono: () => {
    const app = new Hono();
    app.get("/hello/:name", (c) => c.text(`hello ${c.req.param("name")}, ${c.req.header("x-some")}`));
    app.post("/json", async (c) => c.json(await c.req.json()));
    return app;
  },
  h3: () => {
    const app = new H3();
    app.get(
      "/hello/:name",
      ({ context, req }) => `hello ${context.params!.name}, ${req.headers.get("x-some")}`,
    );
    app.post("/json", ({ req }) => req.json());
    return app as ServeFetch;
  },
  Elysia: () =>
    new Elysia()
      .get("/hello/:name", ({ params, headers }) => `hello ${params.name}, ${headers["x-some"]}`)
      .post("/json", ({ body }) => body),
};

for (const [name, make] of Object.entries(APPLICATIONS)) {
  test(`serve takes an application of ${name}`, async () => {
    const server = serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, make());
    try {
      const client = await Client.to(server.addr.port);
      for (const fields of ["X-Some: field\r\n", "X-Some: field\r\nConnection: close\r\n"]) {
        client.send(request("/hello/you", { fields }));
        const { status, body } = await client.reply();
        assertEquals([status, String(body)], [200, "hello you, field"]);
      }
      client.close();
      const other = await Client.to(server.addr.port);
      const fields = "Content-Type: application/json\r\nContent-Length: 7\r\nConnection: close\r\n";
      other.send(request("/json", { method: "POST", fields }), '{"a":1}');
      assertEquals(JSON.parse(String((await other.reply()).body)), { a: 1 });
      await other.rest();
      other.close();
    } finally {
      await server.shutdown();
    }
  });
}
