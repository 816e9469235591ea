/** `--workers`: a worker that ends is replaced, and none outlives the process that started it. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as fs from "node:fs";
import process from "node:process";
import { test } from "../support/harness.ts";
import { assertSame, Client, request } from "../support/http_client.ts";
import {
  childrenOf,
  LARGE,
  noProc,
  refusesConnections,
  type Server,
  serving,
  type Site,
  until,
} from "../support/site.ts";
import { endsWell, exists, occurrences, servesRightBytes, WORKERS, workersOf } from "./worker_processes.ts";

/** Moves the site's directory away, kills `count` of the workers and waits until nobody could replace them twice. */
async function loseWorkers(server: Server, site: Site, count: number): Promise<number[]> {
  const workers = await workersOf(server, 2);
  fs.renameSync(site.root, `${site.root}.away`);
  const killed = workers.slice(0, count);
  for (const pid of killed) process.kill(pid, "SIGKILL");
  await until(() => occurrences(server.errors, "there is no directory") >= 2 * count, "attempts that fail");
  return killed;
}

for (const count of [1, 2]) {
  test(
    `serve replaces ${count} of 2 workers once the directory is back`,
    () =>
      serving(async (server, site) => {
        const killed = await loseWorkers(server, site, count);
        assertEquals(await refusesConnections(server.port), count === 2);
        fs.renameSync(`${site.root}.away`, site.root);
        await until(() => occurrences(server.errors, "a worker listens again") === count, "new workers");
        assertEquals((await workersOf(server, 2)).filter((pid) => killed.includes(pid)), []);
        await servesRightBytes(server, site);
        assert(server.errors.includes("a worker ended with code 1; another one starts in "), server.errors);
        server.errors = "";
        await endsWell(server);
      }, { args: WORKERS }),
    { skip: noProc },
  );

  test(
    `serve ends with code 0 on SIGTERM while ${count} of 2 workers cannot start`,
    () =>
      serving(async (server, site) => {
        await loseWorkers(server, site, count);
        await endsWell(server);
        server.errors = "";
        fs.renameSync(`${site.root}.away`, site.root);
      }, { args: WORKERS }),
    { skip: noProc },
  );
}

test(
  "serve ends with code 1 if no worker is left and none can be started",
  () =>
    serving(async (server, site) => {
      await loseWorkers(server, site, 2);
      await until(() => occurrences(server.errors, "there is no directory") >= 12, "more attempts");
      assertEquals(await server.exit(), 1);
      assert(server.errors.endsWith("error: a worker ended with code 1; no worker is left\n"), server.errors);
      // Each of the two has eight attempts, and a few more while the other still has some.
      assert(occurrences(server.errors, "there is no directory") <= 2 * 12, server.errors);
      server.errors = "";
      fs.renameSync(`${site.root}.away`, site.root);
    }, { args: WORKERS }),
  { skip: noProc },
);

test("serve ends with code 0 on SIGTERM while a worker starts", () =>
  serving(async (server) => {
    const before = await workersOf(server, 2);
    process.kill(before[0], "SIGKILL");
    await until(() => childrenOf(server.child.pid!).some((pid) => !before.includes(pid)), "a new process");
    await endsWell(server);
    server.errors = "";
  }, { args: WORKERS }), { skip: noProc });

test("workers end when the process that started them is killed", () =>
  serving(async (server, site) => {
    const workers = await workersOf(server, 3);
    const client = await Client.to(server.port);
    client.send(request(LARGE));
    await client.begun();
    process.kill(server.child.pid!, "SIGKILL");
    await until(() => !workers.some(exists), "the workers to end");
    assert(await refusesConnections(server.port));
    client.close();
    assert(fs.existsSync(site.root));
  }, { args: ["--workers", "3"] }), { skip: noProc });

test("workers that start end when the process that started them is killed", () =>
  serving(async (server) => {
    const before = await workersOf(server, 2);
    process.kill(before[0], "SIGKILL");
    const all = await until(() => {
      const now = childrenOf(server.child.pid!);
      return now.some((pid) => !before.includes(pid)) && now;
    }, "a new process");
    process.kill(server.child.pid!, "SIGKILL");
    await until(() => !all.some(exists), "the workers to end");
    server.errors = "";
  }, { args: WORKERS }), { skip: noProc });

/** The sockets of IPv4 connections that `port` serves, by the client's port. */
function connectionsTo(port: number): Map<number, string> {
  const portOf = (address: string) => parseInt(address.split(":")[1], 16);
  return new Map(
    fs.readFileSync("/proc/net/tcp", "latin1").trim().split("\n").slice(1).map((line) =>
      line.trim().split(/\s+/)
    )
      .filter(([, local]) => portOf(local) === port)
      .map((fields) => [portOf(fields[2]), `socket:[${fields[9]}]`]),
  );
}

function holds(pid: number, socket: string): boolean {
  return fs.readdirSync(`/proc/${pid}/fd`).some((fd) => {
    try {
      return fs.readlinkSync(`/proc/${pid}/fd/${fd}`) === socket;
    } catch {
      return false; // closed meanwhile
    }
  });
}

test("a worker that is killed takes only its own connections with it", () =>
  serving(async (server, site) => {
    const workers = await workersOf(server, 3);
    const clients = await Promise.all(Array.from({ length: 24 }, async () => {
      const client = await Client.to(server.port);
      client.send(request(LARGE));
      await client.begun();
      return client;
    }));
    const sockets = connectionsTo(server.port);
    const ownerOf = ({ socket }: Client) =>
      workers.find((pid) => holds(pid, sockets.get(socket.localPort!)!)) ?? -1;
    const owners = new Map(clients.map((client) => [client, ownerOf(client)]));
    assert(!clients.some((client) => owners.get(client) === -1));
    const killed = owners.get(clients[0])!;
    process.kill(killed, "SIGKILL");
    await Promise.all(clients.map(async (client) => {
      client.socket.resume();
      if (owners.get(client) === killed) await assertRejects(() => client.reply(), Error, "ended");
      else assertSame((await client.reply()).body, site.files.get(LARGE)!, "a connection of another worker");
      client.close();
    }));
    assert(clients.some((client) => owners.get(client) !== killed));
    await until(() => server.errors.includes("a worker listens again"), "a new worker");
    await workersOf(server, 3);
    await servesRightBytes(server, site);
    server.errors = "";
    await endsWell(server);
  }, { args: ["--workers", "3"] }), { skip: noProc });
