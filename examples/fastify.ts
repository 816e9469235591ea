// Files and an application in Fastify: deno run -A (or bun) examples/fastify.ts [DIR [PORT]]
import { sendFile, serveStatic } from "@zerocopy/sendfile/node";
import fastify from "fastify";
import process from "node:process";

const [directory = ".", port = "9000"] = process.argv.slice(2);
const app = fastify();
const files = serveStatic(directory, { urlRoot: "files", fallthrough: false });

// hijack(): from here on the response is ours, and Fastify sends nothing.
app.get("/files/*", (request, reply) => {
  reply.hijack();
  files(request.raw, reply.raw);
});
app.get("/this", async (request, reply) => {
  reply.hijack();
  console.log(await sendFile(request.raw, reply.raw, new URL(import.meta.url)));
});
app.get("/", () => "hello");

console.log(`${await app.listen({ port: Number(port), host: "127.0.0.1" })}/`);
