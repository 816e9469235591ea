/** Which client the log names, with and without a proxy in front. */
import { assertEquals } from "@std/assert";
import { clientBehindProxy } from "../../cli/client_address.ts";
import { test } from "../support/harness.ts";
import { ask } from "../support/http_client.ts";
import { serving } from "../support/site.ts";

const PEER = "10.0.0.1";

/** `X-Forwarded-For`, `Forwarded`, and the client that they make. */
const TABLE: [list: string | undefined, forwarded: string | undefined, client: string][] = [
  [undefined, undefined, PEER],
  ["192.0.2.1", undefined, "192.0.2.1"],
  ["6.6.6.6, 192.0.2.1", undefined, "192.0.2.1"], // the client has sent the first one itself
  ["192.0.2.1:4711", undefined, "192.0.2.1"],
  ["2001:db8::1", undefined, "2001:db8::1"],
  ["[2001:db8::1]:4711", undefined, "2001:db8::1"],
  ["unknown", undefined, PEER],
  ["192.0.2.1, ", undefined, PEER],
  ["", undefined, PEER],
  ["999.0.0.1", undefined, PEER],
  ["192.0.2.1\u0007", undefined, PEER],
  [undefined, "for=192.0.2.1", "192.0.2.1"],
  [undefined, "FOR = 192.0.2.1;proto=https;by=203.0.113.43", "192.0.2.1"],
  [undefined, 'proto=https;for="[2001:db8::1]:4711"', "2001:db8::1"],
  [undefined, 'for=6.6.6.6, for="192.0.2.1:80"', "192.0.2.1"],
  [undefined, 'for="x, for=6.6.6.6", for=192.0.2.1', "192.0.2.1"],
  [undefined, 'for=192.0.2.1, for="x, for=6.6.6.6"', PEER],
  [undefined, 'for="\\", for=6.6.6.6"', PEER],
  [undefined, 'for="192.0.2.\\1"', "192.0.2.1"],
  [undefined, "for=_hidden", PEER],
  [undefined, "proto=https", PEER],
  ["192.0.2.1", "for=192.0.2.1", "192.0.2.1"],
  ["192.0.2.1", "for=6.6.6.6", PEER], // one of them is the client's own
  ["192.0.2.1", "proto=https", PEER],
];

test("clientBehindProxy takes the last address, and ignores ambiguous ones", () => {
  for (const [list, forwarded, client] of TABLE) {
    const fields: Record<string, string | undefined> = { "x-forwarded-for": list, forwarded };
    assertEquals(clientBehindProxy(PEER, (name) => fields[name]), client, `${list} and ${forwarded}`);
  }
});

test("serve --trust-proxy logs the client that the proxy names, and no other does", async () => {
  const fields = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7\r\n";
  await serving(async (server) => {
    await ask(server.port, "/1.bin", { fields });
    await server.line(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ 192\.0\.2\.7 GET \/1\.bin 200 1 /);
  }, { args: ["--trust-proxy"] });
  await serving(async (server) => {
    await ask(server.port, "/1.bin", { fields });
    await server.line(/^\S+ 127\.0\.0\.1 GET \/1\.bin 200 1 /);
  });
  await serving(async (server) => {
    await ask(server.port, "/1.bin", { fields });
    assertEquals(JSON.parse(await server.line(/^{/)).client, "192.0.2.7");
  }, { args: ["--trust-proxy", "--log", "json"] });
});
