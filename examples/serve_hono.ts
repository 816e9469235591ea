// Files and an application in Hono on the package's own server: deno run -A (or bun) examples/serve_hono.ts [DIR [PORT]]
import { sendfileStats } from "@zerocopy/sendfile";
import { serveDir, serveFile } from "@zerocopy/sendfile/http";
import { serve } from "@zerocopy/sendfile/serve";
import { Hono } from "hono";
import process from "node:process";

const [fsRoot = ".", port = "9000"] = process.argv.slice(2);
const app = new Hono();

app.use(async (c, next) => {
  await next();
  c.header("X-Content-Type-Options", "nosniff");
});
app.use("/files/*", (c, next) =>
  serveDir(c.req.raw, {
    fsRoot,
    urlRoot: "files",
    quiet: true,
    // A missing file is passed to the routes below.
    async fallthrough() {
      await next();
      return c.res;
    },
  }));
app.get("/this", (c) => serveFile(c.req.raw, new URL(import.meta.url)));
app.get("/", (c) => c.text("hello"));
app.notFound((c) => c.text("nothing here", 404));

const server = serve({ hostname: "127.0.0.1", port: Number(port), onListen() {} }, async (request, info) => {
  const log = () => console.log(new URL(request.url).pathname, sendfileStats().sendfile);
  info.completed.then(log, console.error);
  return await app.fetch(request, info);
});
console.log(`http://${server.addr.hostname}:${server.addr.port}/`);
