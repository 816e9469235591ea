/** What the tests of descriptors run in a process of its own: a server of one kind that sends one file to everybody. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { serveFile, withSendfile } from "../../http/mod.ts";
import { sendFile } from "../../http/node.ts";
import { sendfile, type SendfileSocket } from "../../mod.ts";
import { isBun } from "../support/harness.ts";
import type { BunGlobal } from "../support/http_servers.ts";

interface BunListener {
  listen(options: {
    hostname: string;
    port: number;
    socket: { open(socket: SendfileSocket & { end(): void }): void; data(): void };
  }): { readonly port: number };
}

const [kind, file] = process.argv.slice(2);
const place = { hostname: "127.0.0.1", port: 0 };
const listening = (port: number) => console.log(`port ${port}`);
const failed = (error: unknown) => console.error(String(error));

function bun<T>(): T {
  return (globalThis as unknown as { Bun: T }).Bun;
}

async function accept(): Promise<void> {
  const listener = Deno.listen(place);
  listening(listener.addr.port);
  for (;;) {
    const conn = await listener.accept();
    sendfile(conn, file).catch(failed).finally(() => conn.close());
  }
}

switch (kind) {
  case "socket":
    if (!isBun) await accept();
    else {
      listening(
        bun<BunListener>().listen({
          ...place,
          socket: {
            open: (socket) => void sendfile(socket, file).catch(failed).finally(() => socket.end()),
            data() {},
          },
        }).port,
      );
    }
    break;
  case "node": {
    const server = createServer((request, response) => {
      sendFile(request, response, file).catch(failed);
    });
    server.listen(0, place.hostname, () => listening((server.address() as AddressInfo).port));
    break;
  }
  case "fetch": {
    const handler = (request: Request) => serveFile(request, file);
    if (isBun) {
      listening(
        bun<BunGlobal>().serve({ ...place, development: false, fetch: handler, error: () => new Response() })
          .port,
      );
    } else {
      Deno.serve({ ...place, onListen: ({ port }) => listening(port) }, withSendfile(handler));
    }
    break;
  }
  default:
    throw new Error(`no such kind: ${kind}`);
}
