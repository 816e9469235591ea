/**
 * Serves files with `Bun.serve` and `Bun.file`, and the header fields of `serveFile`.
 *
 *   bun http_bun_file.ts DIR
 */
import process from "node:process";
import { fields, hostname, pad } from "./fields.mjs";

/** The members of Bun that we use. */
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
// Bun adds `Content-Disposition: filename=…` if the field is missing; serveFile sends "inline" to avoid that.
const headers = { ...fields, "Content-Disposition": "inline", ...pad };

const { port } = Bun.serve({
  hostname,
  port: 0,
  development: false,
  fetch: (request) => new Response(Bun.file(directory + new URL(request.url).pathname), { headers }),
});
console.log(port);
