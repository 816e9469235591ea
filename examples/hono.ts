// Files and an application in Hono: deno run -A (or bun) examples/hono.ts [DIR [PORT]]
import { serveDir, serveFile, withSendfile } from "@zerocopy/sendfile/http";
import { Hono } from "hono";
import process from "node:process";

const [fsRoot = ".", port = "9000"] = process.argv.slice(2);
const app = new Hono();

// Middleware may add fields. If it replaces the body, as compress() does, the new body is sent instead of the file.
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
app.get("/files/made", (c) => c.text("made by a route"));
app.get("/", (c) => c.text("hello"));
app.notFound((c) => c.text("nothing here", 404));

// Outermost, so that it receives the response after all other middleware.
const handler = withSendfile((request, info) => app.fetch(request, info), {
  onBody: (way, { url }) => console.log(new URL(url).pathname, way),
});

/** The members of Bun that we use; your own program gets them from @types/bun. */
interface Bun {
  serve(options: { hostname: string; port: number; fetch: typeof handler }): { url: URL };
}
const { Bun } = globalThis as { Bun?: Bun };
const hostname = "127.0.0.1";
if (Bun) console.log(`${Bun.serve({ hostname, port: Number(port), fetch: handler }).url}`);
else {
  const onListen = ({ port }: Deno.NetAddr) => console.log(`http://${hostname}:${port}/`);
  Deno.serve({ hostname, port: Number(port), onListen }, handler);
}
