/**
 * Files by Deno's own means: `Deno.serve`, and the file as a stream.
 *
 *   deno run -A http_deno_stream.ts DIR
 */
const [directory] = Deno.args;

Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, async (request) => {
  const file = await Deno.open(directory + new URL(request.url).pathname);
  const { size } = await file.stat();
  return new Response(file.readable, { headers: { "content-length": String(size) } });
});
