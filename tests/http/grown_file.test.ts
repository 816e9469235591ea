/** A file that becomes longer between the head of its response and the body: the client gets what the head promised. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { serveFile, withSendfile } from "../../http/mod.ts";
import { bytes, folder } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { assertSame } from "../support/http_client.ts";

type Handler = Parameters<typeof withSendfile>[0];

const CONTENT = bytes(300_000, 5);

const WRAPS = { serveFile: (handler: Handler): Handler => handler, withSendfile };

for (const [name, wrap] of Object.entries(WRAPS)) {
  for (const version of [1, 2] as const) {
    test(
      `${name}, HTTP/${version}: a file that grows after its head was made is sent as it was`,
      async () => {
        const root = folder();
        const path = join(root, "log.bin");
        fs.writeFileSync(path, CONTENT);
        const server = Deno.serve(
          { hostname: "127.0.0.1", port: 0, onListen() {} },
          wrap(async (request: Request) => {
            const response = await serveFile(request, path);
            fs.appendFileSync(path, bytes(100_000, 6));
            return response;
          }),
        );
        try {
          using client = Deno.createHttpClient({ http1: version === 1, http2: version === 2 });
          const response = await fetch(`http://127.0.0.1:${server.addr.port}/`, { client });
          assertEquals(response.headers.get("content-length"), String(CONTENT.length));
          assertSame(Buffer.from(await response.arrayBuffer()), Buffer.from(CONTENT), "the body");
        } finally {
          await server.shutdown();
          fs.rmSync(root, { recursive: true });
        }
      },
      { only: "deno" },
    );
  }
}
