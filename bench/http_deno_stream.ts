/**
 * Files by Deno's own means, with the header fields of `serveFile`: `Deno.serve`, and the file as a stream.
 *
 *   deno run -A http_deno_stream.ts DIR [sync]
 *
 * `sync`: opened and looked at synchronously, which is the least that a handler does for a file. What `serveFile` is
 * above it is what conditions, ranges and the look at where the path leads cost.
 */
import { fields, hostname, pad } from "./fields.mjs";

const [directory, sync] = Deno.args;

async function answer(request: Request): Promise<Response> {
  const file = await Deno.open(directory + new URL(request.url).pathname);
  const { size } = await file.stat();
  return respond(file, size);
}

function answerSync(request: Request): Response {
  const file = Deno.openSync(directory + new URL(request.url).pathname);
  return respond(file, file.statSync().size);
}

function respond(file: Deno.FsFile, size: number): Response {
  return new Response(file.readable, { headers: { ...fields, "Content-Length": String(size), ...pad } });
}

Deno.serve({ hostname, port: 0, onListen: ({ port }) => console.log(port) }, sync ? answerSync : answer);
