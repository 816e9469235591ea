/**
 * Files by Bun's own means: `Bun.serve` and `Bun.file`.
 *
 *   bun http_bun_file.ts DIR
 */
import process from "node:process";

/** The part of Bun in use. */
interface BunGlobal {
  serve(options: {
    hostname: string;
    port: number;
    development: boolean;
    fetch(request: Request): Response;
  }): { readonly port: number };
  file(path: string): Blob;
}
const { Bun } = globalThis as unknown as { Bun: BunGlobal };

const directory = process.argv[2];

const { port } = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  development: false,
  fetch: (request) => new Response(Bun.file(directory + new URL(request.url).pathname)),
});
console.log(port);
