/**
 * The cost of `withSendfile` for a handler that sends no files: serves the same bytes from memory, with or without
 * it.
 *
 *   deno run -A http_memory.ts DIR [withSendfile]
 */
import { withSendfile } from "../http/mod.ts";
import { fields, hostname, pad } from "./fields.mjs";

const [directory, wrapper] = Deno.args;
const bodies = new Map<string, Uint8Array<ArrayBuffer>>();
const headers = { ...fields, ...pad };

function answer(request: Request): Response {
  const { pathname } = new URL(request.url);
  let body = bodies.get(pathname);
  if (!body) bodies.set(pathname, body = Deno.readFileSync(directory + pathname));
  return new Response(body, { headers });
}

const address = { hostname, port: 0, onListen: ({ port }: Deno.NetAddr) => console.log(port) };
Deno.serve(address, wrapper ? withSendfile(answer) : answer);
