// A site and an application under Deno.serve: deno run -A examples/serve_deno.ts [DIR]
import { serveDir } from "@zerocopy/sendfile/http";

const [fsRoot = "."] = Deno.args;

Deno.serve({ port: 9000 }, (request) =>
  serveDir(request, {
    fsRoot,
    showDirListing: true,
    maxAge: 60,
    precompressed: true,
    fallthrough: () => new Response("hello from the application"),
  }));
