/**
 * Serves files with `serveFile` under `Deno.serve` (also wrapped in `withSendfile`) or `Bun.serve`.
 *
 *   deno run -A http_servefile.ts DIR [THRESHOLD]
 *   bun http_servefile.ts DIR
 */
import process from "node:process";
import { serveFile, withSendfile } from "../http/mod.ts";
import { hostname, pad } from "./fields.mjs";

/** The members of Bun that we use. */
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
const address = { hostname, port: 0 };
// On Bun serveFile sends this field only for some sizes; setting it always keeps all heads equally long.
const fields = Bun ? { "Content-Disposition": "inline", ...pad } : pad;
const options = { headers: Object.entries(fields).map((field) => field.join(": ")) };

function answer(request: Request): Promise<Response> {
  return serveFile(request, directory + new URL(request.url).pathname, options);
}

if (Bun) {
  console.log(Bun.serve({ ...address, development: false, fetch: answer }).port);
} else {
  const onListen = ({ port }: Deno.NetAddr) => console.log(port);
  Deno.serve(
    { ...address, onListen },
    threshold ? withSendfile(answer, { threshold: Number(threshold) }) : answer,
  );
}
