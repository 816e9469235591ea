// Files and an application in srvx: deno run -A (or bun) examples/srvx.ts [DIR [PORT]]
import { serveDir, serveFile, withSendfile } from "@zerocopy/sendfile/http";
import process from "node:process";
import { serve, type ServerRequest } from "srvx";

const [fsRoot = ".", port = "9000"] = process.argv.slice(2);
type Next = () => Response | Promise<Response>;

function routes(request: ServerRequest): Response | Promise<Response> {
  switch (new URL(request.url).pathname) {
    case "/":
      return new Response("hello");
    case "/this":
      return serveFile(request, new URL(import.meta.url));
    default:
      return new Response("nothing here", { status: 404 });
  }
}

const server = serve({
  hostname: "127.0.0.1",
  port: Number(port),
  silent: true,
  middleware: [
    // The first, so that it receives the response after all other middleware.
    withSendfile((_request, next: Next) => next(), {
      onBody: (way, { url }) => console.log(new URL(url).pathname, way),
    }),
    (request, next) =>
      new URL(request.url).pathname.startsWith("/files")
        ? serveDir(request, { fsRoot, urlRoot: "files", quiet: true, fallthrough: () => next() })
        : next(),
  ],
  fetch: routes,
});
await server.ready();
console.log(server.url);
