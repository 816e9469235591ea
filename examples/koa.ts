// Files and an application in Koa: deno run -A (or bun) examples/koa.ts [DIR [PORT]]
import { sendFile, serveStatic } from "@zerocopy/sendfile/node";
// @ts-types="@types/koa"
import Koa from "koa";
import type { AddressInfo } from "node:net";
import process from "node:process";

const [directory = ".", port = "9000"] = process.argv.slice(2);
const app = new Koa();
const files = serveStatic(directory, {
  urlRoot: "files",
  onSent: (sent, { url }) => console.log(url, sent),
});

/** Tells Koa that we send the response, and resets the status, which Koa has set to 404. */
function take(ctx: Koa.Context): void {
  ctx.respond = false;
  ctx.res.statusCode = 200;
}

/** Lets Koa send the response again. */
function giveBack(ctx: Koa.Context): void {
  ctx.respond = true;
  ctx.res.statusCode = 404;
}

app.use((ctx, next) => {
  if (!ctx.path.startsWith("/files")) return next();
  take(ctx);
  return new Promise((resolve, reject) => {
    ctx.res.once("close", resolve);
    files(ctx.req, ctx.res, (error) => {
      giveBack(ctx);
      if (error) reject(error);
      else resolve(next());
    });
  });
});
app.use(async (ctx, next) => {
  if (ctx.path !== "/this") return next();
  take(ctx);
  await sendFile(ctx.req, ctx.res, new URL(import.meta.url));
});
app.use((ctx) => {
  if (ctx.path === "/") ctx.body = "hello";
  else ctx.throw(404, "nothing here");
});

const server = app.listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
});
