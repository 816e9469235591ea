/**
 * server.c in TypeScript, by `Bun.listen` and `sendfile`.
 *
 *   bun raw_bun.ts FILE...
 */
import process from "node:process";
import type { BunSocketLike } from "../mod.ts";
import { send } from "./bare.ts";
import { hostname } from "./fields.mjs";
import { isComplete, openServed, pathOf } from "./served.ts";

interface Request {
  readonly bytes: Uint8Array;
  length: number;
}

/** The members of Bun that we use. */
interface BunSocket extends BunSocketLike {
  data: Request;
  setNoDelay(on: boolean): boolean;
  terminate(): void;
}
interface BunGlobal {
  listen(options: {
    hostname: string;
    port: number;
    socket: {
      open(socket: BunSocket): void;
      data(socket: BunSocket, chunk: Uint8Array): void;
      error(socket: BunSocket, error: Error): void;
    };
  }): { readonly port: number };
}
const { Bun } = globalThis as unknown as { Bun: BunGlobal };

const files = openServed(process.argv.slice(2));
const listener = Bun.listen({
  hostname,
  port: 0,
  socket: {
    open(socket) {
      socket.setNoDelay(true);
      socket.data = { bytes: new Uint8Array(4096), length: 0 };
    },
    data(socket, chunk) {
      const request = socket.data;
      if (request.length + chunk.length > request.bytes.length) return socket.terminate();
      request.bytes.set(chunk, request.length);
      request.length += chunk.length;
      if (isComplete(request.bytes, request.length)) {
        // A failure means that the client has left, which is how each run ends.
        serve(socket).catch(() => socket.terminate());
      }
    },
    error(socket) {
      socket.terminate();
    },
  },
});
console.log(listener.port);

async function serve(socket: BunSocket): Promise<void> {
  const request = socket.data;
  request.length = 0;
  const file = files.get(pathOf(request.bytes));
  if (!file) return socket.terminate();
  await send(socket, file.fd, file.options);
}
