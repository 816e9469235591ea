// Files and an application in Hono, files by sendfile(2): deno run -A examples/hono.ts [DIR [PORT]]
import { serveDir, withSendfile } from "@zerocopy/sendfile/http";
import { Hono } from "hono";

const [fsRoot = ".", port = "9000"] = Deno.args;
const app = new Hono();

// Middleware may add fields. What puts another body in the place of a file's, as compress() does, has it sent as that.
app.use(async (c, next) => {
  await next();
  c.header("X-Content-Type-Options", "nosniff");
});
app.get("/files/*", (c) => serveDir(c.req.raw, { fsRoot, urlRoot: "files" }));
app.get("/", (c) => c.text("hello"));

// Outermost, so that it sees what all the others have made of a response.
const handler = withSendfile(app.fetch, { onBody: (way, { url }) => console.log(url, way) });
const onListen = ({ hostname, port }: Deno.NetAddr) => console.log(`http://${hostname}:${port}/`);
Deno.serve({ hostname: "127.0.0.1", port: Number(port), onListen }, handler);
