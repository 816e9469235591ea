/** Connections are spread over workers. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import { test } from "../support/harness.ts";
import { ask, Client, request } from "../support/http_client.ts";
import { childrenOf, noProc, serving, until } from "../support/site.ts";

test(
  "serve spreads connections over its workers, and replaces one that dies",
  () =>
    serving(async (server) => {
      const children = () => childrenOf(server.child.pid!);
      const first = await until(() => children().length === 3 && children(), "three workers");
      const idle = first.map(socketsOf);
      const busy = new Set<number>();
      for (let i = 0; i < 200 && busy.size < 2; i++) {
        const client = await Client.to(server.port);
        client.send(request("/1.bin"));
        await client.reply();
        first.forEach((pid, i) => socketsOf(pid) > idle[i] && busy.add(pid));
        client.close();
      }
      assert(busy.size >= 2);
      process.kill(first[0], "SIGKILL");
      await until(() => children().length === 3 && !children().includes(first[0]), "a new worker");
      await until(() => server.errors.includes("a worker ended"), "the notice");
      for (let i = 0; i < 10; i++) assertEquals((await ask(server.port, "/1.bin")).status, 200);
      server.errors = ""; // the notice was wanted
      process.kill(server.child.pid!, "SIGTERM");
      assertEquals(await server.exit(), 0);
      assertEquals(children(), []);
    }, { args: ["--workers", "3"] }),
  { skip: noProc },
);

function socketsOf(pid: number): number {
  return fs.readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("socket:");
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}
