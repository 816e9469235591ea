// A site and an application under Deno.serve: deno run -A examples/serve_deno.ts [DIR [PORT]]
import { serveDir } from "@zerocopy/sendfile/http";

const [fsRoot = ".", port = "9000"] = Deno.args;

Deno.serve({ hostname: "127.0.0.1", port: Number(port) }, (request) =>
  serveDir(request, {
    fsRoot,
    showDirListing: true,
    maxAge: 60,
    precompressed: true,
    fallthrough: () => new Response("hello from the application"),
  }));
