// Files and an application in Elysia: deno run -A (or bun) examples/elysia.ts [DIR [PORT]]
import { serveDir, serveFile, withSendfile } from "@zerocopy/sendfile/http";
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

const handler = withSendfile(app.fetch, {
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
