// A site under Bun.serve: bun examples/serve_bun.ts [DIR [PORT]]
import { serveDir } from "@zerocopy/sendfile/http";
import process from "node:process";

/** The part of Bun in use; a program of yours has it from @types/bun. */
interface Bun {
  serve(options: {
    hostname: string;
    port: number;
    fetch: (request: Request) => Promise<Response>;
  }): { readonly url: URL };
}

const [fsRoot = ".", port = "9000"] = process.argv.slice(2);

const { url } = (globalThis as unknown as { Bun: Bun }).Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  fetch: (request) => serveDir(request, { fsRoot, showDirListing: true, maxAge: 60 }),
});
console.log(`${url}`);
