/**
 * The least that a handler does for a file with the header fields of `serveFile`: no condition, no range, no look at
 * what the path leads to. What `serveFile` is above it is what those cost.
 *
 *   deno run -A http_floor.ts DIRECTORY
 *   bun http_floor.ts DIRECTORY
 */
import process from "node:process";

/** The part of Bun in use. */
interface BunGlobal {
  file(path: string): Blob;
  serve(options: {
    hostname: string;
    port: number;
    development: boolean;
    fetch(request: Request): Response;
  }): { readonly port: number };
}

const { Bun } = globalThis as unknown as { Bun?: BunGlobal };
const [directory] = process.argv.slice(2);
const address = { hostname: "127.0.0.1", port: 0 };

function answer(request: Request): Response {
  const path = directory + new URL(request.url).pathname;
  const headers: Record<string, string> = {
    "Accept-Ranges": "bytes",
    "Content-Type": "application/octet-stream",
    "ETag": '"100000-6b013e87.28599f8e"',
    "Last-Modified": "Sat, 21 Nov 2026 06:47:35 GMT",
  };
  if (Bun) return new Response(Bun.file(path), { headers: { ...headers, "Content-Disposition": "inline" } });
  const file = Deno.openSync(path);
  headers["Content-Length"] = String(file.statSync().size);
  return new Response(file.readable, { headers });
}

if (Bun) console.log(Bun.serve({ ...address, development: false, fetch: answer }).port);
else Deno.serve({ ...address, onListen: ({ port }) => console.log(port) }, answer);
