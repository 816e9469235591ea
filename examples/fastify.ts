// Files and an application in Fastify: deno run -A (or bun) examples/fastify.ts [DIR [PORT]]
import middie from "@fastify/middie";
import { sendFile, serveStatic } from "@zerocopy/sendfile/node";
import fastify from "fastify";
import process from "node:process";

const [directory = ".", port = "9000"] = process.argv.slice(2);
const app = fastify();
const onSent = (sent: unknown, { url }: { url?: string }) => console.log(url, sent);

// Middleware lets Fastify answer for missing files.
await app.register(middie);
app.use("/files", serveStatic(directory, { onSent }));

// hijack(): from here on we own the response, and Fastify sends nothing.
const own = serveStatic(directory, { urlRoot: "own", fallthrough: false, onSent });
app.get("/own/*", (request, reply) => {
  reply.hijack();
  own(request.raw, reply.raw);
});
app.get("/this", async (request, reply) => {
  reply.hijack();
  await sendFile(request.raw, reply.raw, new URL(import.meta.url));
});
app.get("/", () => "hello");
app.setNotFoundHandler((_request, reply) => void reply.code(404).send("nothing here"));

console.log(`${await app.listen({ port: Number(port), host: "127.0.0.1" })}/`);
