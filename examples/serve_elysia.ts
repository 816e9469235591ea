// Files and an application in Elysia on the package's own server: deno run -A (or bun) examples/serve_elysia.ts [DIR [PORT]]
import { sendfileStats } from "@zerocopy/sendfile";
import { serveDir, serveFile } from "@zerocopy/sendfile/http";
import { serve } from "@zerocopy/sendfile/serve";
import { Elysia, NotFoundError } from "elysia";
import process from "node:process";

const [fsRoot = ".", port = "9000"] = process.argv.slice(2);

const app = new Elysia()
  .onError(({ code, status }) => code === "NOT_FOUND" ? status(404, "nothing here") : undefined)
  // With get() Elysia would answer HEAD from the GET route and send the length of the empty body: Content-Length 0.
  .all("/files/*", ({ request }) =>
    serveDir(request, {
      fsRoot,
      urlRoot: "files",
      quiet: true,
      fallthrough() {
        throw new NotFoundError();
      },
    }))
  .get("/this", ({ request }) => serveFile(request, new URL(import.meta.url)))
  .get("/", () => "hello");

const server = serve({ hostname: "127.0.0.1", port: Number(port), onListen() {} }, async (request, info) => {
  const log = () => console.log(new URL(request.url).pathname, sendfileStats().sendfile);
  info.completed.then(log, console.error);
  return await app.fetch(request);
});
console.log(`http://${server.addr.hostname}:${server.addr.port}/`);
