/**
 * Serves files with `Deno.serve` as streams, and the header fields of `serveFile`.
 *
 *   deno run -A http_deno_stream.ts DIR [sync]
 *
 * `sync`: opens and stats the file synchronously, the least that a handler can do. The difference to `serveFile` is
 * the cost of preconditions, ranges and the check of the path.
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
