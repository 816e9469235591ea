/**
 * Files by `serveFile`, under `Deno.serve` or `Bun.serve`, there also with `withSendfile` around it.
 *
 *   deno run -A http_servefile.ts DIR [THRESHOLD]
 *   bun http_servefile.ts DIR
 */
import process from "node:process";
import { serveFile, withSendfile } from "../http/mod.ts";
import { hostname, pad } from "./fields.mjs";

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
const address = { hostname, port: 0 };
// On Bun serveFile sends this field with some sizes only; without it heads would differ in length.
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
