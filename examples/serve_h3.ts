// Files and an application in h3 on the package's own server: deno run -A (or bun) examples/serve_h3.ts [DIR [PORT]]
import { sendfileStats } from "@zerocopy/sendfile";
import { serveDir, serveFile } from "@zerocopy/sendfile/http";
import { serve } from "@zerocopy/sendfile/serve";
import { H3, HTTPError } from "h3";
import process from "node:process";

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

const server = serve({ hostname: "127.0.0.1", port: Number(port), onListen() {} }, async (request, info) => {
  const log = () => console.log(new URL(request.url).pathname, sendfileStats().sendfile);
  info.completed.then(log, console.error);
  return await app.fetch(request);
});
console.log(`http://${server.addr.hostname}:${server.addr.port}/`);
