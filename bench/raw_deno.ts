/**
 * server.c in TypeScript, by `Deno.listen` and `sendfile`.
 *
 *   deno run -A raw_deno.ts FILE...
 */
import { send } from "./bare.ts";
import { hostname } from "./fields.mjs";
import { isComplete, openServed, pathOf } from "./served.ts";

const files = openServed(Deno.args);
const listener = Deno.listen({ hostname, port: 0 });
console.log(listener.addr.port);

for await (const conn of listener) {
  serve(conn)
    .catch(() => {/* the client has left, which is how each of its runs ends */})
    .finally(() => conn.close());
}

async function serve(conn: Deno.TcpConn): Promise<void> {
  conn.setNoDelay();
  const request = new Uint8Array(4096);
  let length = 0;
  for (;;) {
    const read = await conn.read(request.subarray(length));
    if (read === null) return;
    length += read;
    if (!isComplete(request, length)) continue;
    length = 0;
    const file = files.get(pathOf(request));
    if (!file) return;
    await send(conn, file.fd, file.options);
  }
}
