/** Sockets as versions of Bun before the pinned one have them; `deno task platforms` runs those versions themselves. */
import { assert, assertEquals } from "@std/assert";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { sendfile, type SendfileSocket, sendfileStats } from "../../mod.ts";
import { serveStatic } from "../../http/node.ts";
import { RUNTIME_TELLS_NONE } from "../../reasons.ts";
import { isBunBefore } from "../../runtime.ts";
import { assertBytes, DATA, testFile } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { bunAccepted } from "../support/pairs_bun.ts";

test("isBunBefore compares numbers, and is false on other runtimes", () => {
  for (const newer of ["99.0.0", "1.99.0"]) assertEquals(isBunBefore(newer), isBun);
  for (const older of ["1.0.0", "0.99.99", process.versions.bun ?? "2.0.0"]) {
    assertEquals(isBunBefore(older), false, older);
  }
});

test("Bun before 1.3.3: a socket that tells no descriptor gets a copy", async () => {
  using file = testFile(DATA);
  const pair = await bunAccepted.open({ small: true });
  try {
    const all = pair.peer.all();
    const socket = new Proxy(pair.socket as object, {
      has: (target, name) => name !== "fd" && name in target,
      get(target, name) {
        const value: unknown = name === "fd" ? undefined : Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const starts: unknown[] = [];
    const onStart = ({ via, reason }: { via: string; reason?: string }) => starts.push([via, reason]);
    await sendfile(socket as SendfileSocket, file.path, { onStart });
    pair.end();
    assertBytes(await all, DATA);
    assertEquals(starts, [["copy", RUNTIME_TELLS_NONE]]);
  } finally {
    pair.close();
  }
}, { only: "bun" });

test(
  "Bun before 1.4: the socket of node:http is refused, and serveStatic writes to the response",
  async () => {
    using file = testFile(DATA);
    const serve = serveStatic("/");
    let refused: unknown;
    const server = http.createServer(async (request, response) => {
      Reflect.deleteProperty(response.socket!, "_handle");
      refused = await sendfile(response.socket!, file.path).catch((error) => error);
      serve(request, response);
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    try {
      const { port } = server.address() as AddressInfo;
      const before = sendfileStats().sendfile.bytes;
      const response = await fetch(`http://127.0.0.1:${port}${file.path}`);
      assertBytes(await response.bytes(), DATA);
      assertEquals(sendfileStats().sendfile.bytes, before);
      assert(refused instanceof TypeError, String(refused));
      assert(refused.message.includes("Bun before 1.4"), refused.message);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  },
  { only: "bun" },
);
