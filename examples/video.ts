// A page with a video that seeks: deno run -A (or bun) examples/video.ts FILE [PORT]
//
// The player asks for the start, for the index if that is at the end, and at each seek for all from there on. It
// leaves what it does not need unread, so a long film costs neither of them more than what is watched.
import { serveFile } from "@zerocopy/sendfile/http";
import { serve } from "@zerocopy/sendfile/serve";
import process from "node:process";

const [file, port = "9000"] = process.argv.slice(2);

const PAGE = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A video</title>
<style>body { margin: 0; background: #000 } video { display: block; width: 100vw; height: 100vh }</style>
<video controls preload="metadata" src="/video"></video>
`;

const server = serve({ hostname: "127.0.0.1", port: Number(port), onListen() {} }, async (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === "/") {
    return new Response(PAGE, { headers: { "Content-Type": "text/html; charset=utf-8" } });
  }
  if (pathname !== "/video") return new Response("nothing here", { status: 404 });
  const response = await serveFile(request, file);
  console.log(request.headers.get("Range") ?? "no range", response.status);
  return response;
});
console.log(`http://${server.addr.hostname}:${server.addr.port}/`);
