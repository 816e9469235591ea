// Files and an application in h3: deno run -A (or bun) examples/h3.ts [DIR [PORT]]
import { serveDir, serveFile, withSendfile } from "@zerocopy/sendfile/http";
import { H3, HTTPError } from "h3";
import process from "node:process";
import { serve } from "srvx";

const [fsRoot = ".", port = "9000"] = process.argv.slice(2);
const app = new H3();

app.use("/files/**", async (event, next) => {
  const response = await serveDir(event.req, { fsRoot, urlRoot: "files", quiet: true });
  return response.status === 404 ? next() : response;
});
app.get("/this", (event) => serveFile(event.req, new URL(import.meta.url)));
app.get("/", () => "hello");
app.all("/**", () => {
  throw new HTTPError("nothing here", { status: 404 });
});

// withSendfile must be outermost. h3's own serve() is srvx's, with app.fetch.
const fetch = withSendfile((request) => app.fetch(request), {
  onBody: (way, { url }) => console.log(new URL(url).pathname, way),
});
const server = serve({ hostname: "127.0.0.1", port: Number(port), silent: true, fetch });
await server.ready();
console.log(server.url);
