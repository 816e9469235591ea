// Files and an application in Express: deno run -A (or bun) examples/express.ts [DIR [PORT]]
// @ts-types="@types/express"
import express from "express";
import { sendFile, serveStatic } from "@zerocopy/sendfile/node";
import type { AddressInfo } from "node:net";
import process from "node:process";

const [directory = ".", port = "9000"] = process.argv.slice(2);
const app = express();

app.use("/files", serveStatic(directory, { onSent: (sent, { url }) => console.log(url, sent) }));
app.get("/this", (request, response) => sendFile(request, response, new URL(import.meta.url)));
app.get("/", (_request, response) => void response.send("hello"));
app.use((_request, response) => void response.status(404).send("nothing here"));

const server = app.listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
});
