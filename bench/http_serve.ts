/**
 * Serves files with `serveFile` under the package's own `serve`.
 *
 *   deno run -A http_serve.ts DIR
 */
import process from "node:process";
import { serveFile } from "../http/mod.ts";
import { serve } from "../serve.ts";
import { hostname, pad } from "./fields.mjs";

const [directory] = process.argv.slice(2);
const options = { headers: Object.entries(pad).map((field) => field.join(": ")) };

serve(
  { hostname, port: 0, onListen: ({ port }) => console.log(port) },
  (request) => serveFile(request, directory + new URL(request.url).pathname, options) as Promise<Response>,
);
