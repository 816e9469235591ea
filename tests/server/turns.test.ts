/** One client must not hold up the others, nor make the server take more than it reads ahead. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers";
import { Worker } from "node:worker_threads";
import type { ResponsePlan } from "../../http/file_response.ts";
import { request } from "../support/http_client.ts";
import { MIB, until } from "../support/site.ts";
import { serving, written } from "./serving.ts";

/** A client in a thread of its own that sends requests without end and reads the responses; it leaves after 8 s. */
const GREEDY = `
const { connect } = require("node:net");
const { workerData: { port, text } } = require("node:worker_threads");
const socket = connect(port, "127.0.0.1");
const flood = Buffer.from(text.repeat(10_000));
const more = () => { while (socket.write(flood)); };
socket.on("data", () => {}).on("error", () => {}).on("connect", more).on("drain", more);
setTimeout(() => socket.destroy(), 8000);
`;

for (const target of ["/a.txt", "/missing"]) {
  serving(
    `lets others have their turn beside a client that asks for ${target} without end`,
    async (place) => {
      const greedy = new Worker(GREEDY, {
        eval: true,
        workerData: { port: place.port, text: request(target) },
      });
      try {
        await until(() => place.requests.length > 1000, "the flood");
        const other = await place.client();
        let longest = 0;
        for (let i = 0; i < 20; i++) {
          const began = performance.now();
          other.send(request("/b.txt"));
          assertEquals(String((await other.reply()).body), "this is b");
          longest = Math.max(longest, performance.now() - began);
        }
        assert(longest < 1000, `another client waited for ${Math.round(longest)} ms`);
      } finally {
        await greedy.terminate();
      }
    },
  );
}

const neverAnswered = Promise.withResolvers<ResponsePlan>();

serving("takes no more from a client than is read ahead while it makes an answer", async (place) => {
  const client = await place.client();
  client.send(request("/first"));
  await until(() => place.requests.length === 1, "the request");
  let all = false;
  written(client, Buffer.alloc(32 * MIB, request("/next"))).then(() => all = true, () => {});
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setTimeout(resolve, 50)); // long enough to send it all
  assert(!all, "32 MiB were taken though nobody reads them");
  client.close();
  neverAnswered.resolve({ status: 200, headers: { "Content-Length": "4" }, body: "late" });
}, { plan: () => neverAnswered.promise });

for (const [target, content] of [["/a.txt", "this is a"], ["/missing", "404 Not Found\n"]]) {
  serving(
    `lets the event loop turn between requests for ${target} that one client has sent at once`,
    async (place) => {
      const COUNT = 5000;
      const client = await place.client();
      let before = 0;
      let most = 0;
      const each = () => {
        most = Math.max(most, place.sent.length - before);
        before = place.sent.length;
        if (before < COUNT && client.socket.writable) setImmediate(each);
      };
      each();
      client.send(request(target).repeat(COUNT));
      for (let i = 0; i < COUNT; i++) assertEquals(String((await client.reply()).body), content);
      assert(most < COUNT / 10, `${most} responses in one turn`);
    },
  );
}
