// A site under Bun.serve: bun examples/serve_bun.ts [DIR]
import { serveDir } from "@zerocopy/sendfile/http";
import process from "node:process";

interface BunGlobal {
  serve(options: { port: number; fetch: (request: Request) => Promise<Response> }): { url: URL };
}

const [fsRoot = "."] = process.argv.slice(2);
const { Bun } = globalThis as unknown as { Bun: BunGlobal };

const { url } = Bun.serve({
  port: 9000,
  fetch: (request) => serveDir(request, { fsRoot, showDirListing: true, maxAge: 60 }),
});
console.log(`${url}`);
