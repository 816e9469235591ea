/**
 * Files by `serveFile`, under `Deno.serve` or `Bun.serve`, there also with `withSendfile` around it.
 *
 *   deno run -A http_servefile.ts DIR [THRESHOLD]
 *   bun http_servefile.ts DIR
 */
import process from "node:process";
import { serveFile, withSendfile } from "../http/mod.ts";

/** The part of Bun in use. */
interface BunGlobal {
  serve(options: {
    hostname: string;
    port: number;
    development: boolean;
    fetch(request: Request): Promise<Response>;
  }): { readonly port: number };
}
const { Bun } = globalThis as unknown as { Bun?: BunGlobal };

const [directory, threshold] = process.argv.slice(2);
const address = { hostname: "127.0.0.1", port: 0 };

function answer(request: Request): Promise<Response> {
  return serveFile(request, directory + new URL(request.url).pathname);
}

if (Bun) console.log(Bun.serve({ ...address, development: false, fetch: answer }).port);
else {Deno.serve({
    ...address,
    onListen: ({ port }) => console.log(port),
  }, threshold ? withSendfile(answer, { threshold: Number(threshold) }) : answer);}
