/**
 * Many connections at once to several servers with withSendfile, with everything drawn by lot. Each response must be
 * what was asked for, or a prefix of it where one side has ended the connection; no client may get a byte of another's.
 */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { canUseSendfile } from "../../mod.ts";
import { openBelow, until } from "../support/data.ts";
import { ask, assertSame } from "../support/http_client.ts";
import { lot } from "./lot.ts";
import { Failure, openSockets, playSeeds, type Tally } from "./scene.ts";
import { connection, couple, Done, frames } from "./with_sendfile_clients.ts";
import { FILES, Site } from "./with_sendfile_files.ts";
import { KINDS, type Place, type Running, serve } from "./with_sendfile_servers.ts";

/**
 * Clients at once. Fewer in the servers' own process: the search through its descriptors would otherwise pay for the
 * largest bodies alone, because the kernel never shrinks a process's table of descriptors.
 */
const AT_ONCE = { here: 24, elsewhere: 200 };

/** All the clients of one round. */
async function clients(seed: number, requests: number, atOnce: number, places: Place[]): Promise<Done> {
  const tally = new Done();
  await playSeeds({ seed, requests, atOnce, tally }, (seed) => {
    const draw = lot(~seed);
    const place = places[draw(8) === 0 ? places.length - 1 : draw(places.length - 1)];
    const shape = draw(12);
    if (shape < 2) return couple(seed, places, tally);
    if (shape === 2) return frames(seed, place, tally);
    return connection({ seed: String(seed), draw: lot(seed), chance: lot(seed ^ 0x5555), place }, tally);
  });
  return tally;
}

/** The same in a process of its own. */
async function clientsElsewhere(...terms: Parameters<typeof clients>): Promise<Done> {
  const args = ["run", "-A", "--no-check", fromFileUrl(import.meta.url)];
  const env = { ...process.env, [CLIENTS]: JSON.stringify(terms) };
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  child.stdout.on("data", (chunk) => out += chunk);
  await new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
  const report = out.trim().split("\n").at(-1)!;
  assert(report, "the clients' process came to an early end");
  const { error, tally } = JSON.parse(report);
  if (error) throw new Failure(error.seed, error.request, error.text);
  return Object.assign(new Done(), tally);
}

/** In the environment of the process that {@link clientsElsewhere} starts. */
const CLIENTS = "SENDFILE_TEST_CLIENTS";

/** Asserts that the ways the servers have reported fit the bodies that clients have received. */
function checkWays(servers: readonly Running[], { whole, cut, counts }: Done): void {
  const all = new Map(servers.flatMap(({ ways }) => [...ways]));
  for (const id of cut) {
    assert(!all.get(id)?.some(({ via }) => via !== "native"), `${id} was cut short by sendfile`);
  }
  for (const id of whole) {
    const ways = all.get(id) ?? []; // none for what was sent from memory
    assert(ways.length <= 1, `${id}: ${JSON.stringify(ways)}`);
  }
  for (const { via, reason = via } of [...all.values()].flat()) counts[reason] = (counts[reason] ?? 0) + 1;
  if (whole.length < 100 || !canUseSendfile()) return;
  assert(counts["several connections have this peer"] > 0, "no two connections had one peer");
  for (const { ways, threshold } of servers) {
    if (threshold === null) continue;
    const sent = [...ways].filter(([_, ways]) => ways.some(({ via }) => via === "sendfile"));
    assert(sent.length > 0, `no body of the server with threshold ${threshold} went by sendfile`);
    counts["sendfile, later on a connection"] = (counts["sendfile, later on a connection"] ?? 0) +
      sent.filter(([id]) => !id.endsWith(".0")).length;
  }
  assert(counts["sendfile, later on a connection"] > 0, "none but first responses went by sendfile");
}

/** One round over servers with and without withSendfile; every second one has its clients in another process. */
export async function withSendfileRound(seed: number, requests: number): Promise<Tally> {
  const where = requests === 1 || lot(seed)(2) === 0 ? "here" : "elsewhere";
  const site = new Site();
  const servers = KINDS.map((kind) => serve(site, kind));
  try {
    // The first fetch of a process opens a pair of sockets for good.
    await (await fetch(`http://127.0.0.1:${servers[0].port}/text/1/0`, { headers: { connection: "close" } }))
      .text();
    const before = openSockets();
    const places = servers.map(({ port, threshold }) => ({ port, threshold }));
    const play = where === "here" ? clients : clientsElsewhere;
    const tally = await play(seed, requests, AT_ONCE[where], places);
    await until("the files are closed", () => openBelow(site.root).length === 0);
    await until("the sockets are closed", () => openSockets() <= before);
    checkWays(servers, tally);
    const { name, content } = FILES.at(-1)!;
    for (const { port, threshold } of servers) {
      if (threshold === null) continue;
      const { body } = await ask(port, `/file/${name}`);
      assertSame(body, Buffer.from(content), "the process still answers");
    }
    for (const { errors } of servers) {
      // A stream ends early only by an error, which Deno.serve passes to its onError.
      assertEquals(errors.filter((error) => !/became shorter/.test(String(error))), []);
    }
    return tally;
  } finally {
    await Promise.all(Object.values(site.changing).map((file) => file.end()));
    await Promise.all(servers.map((server) => server.close()));
    fs.rmSync(site.root, { recursive: true });
  }
}

if (process.env[CLIENTS]) {
  const terms = JSON.parse(process.env[CLIENTS]) as Parameters<typeof clients>;
  const result = await clients(...terms).then((tally) => ({ tally }), (error) => ({
    error: { seed: error.seed, request: error.request, text: error.stack },
  }));
  console.log(JSON.stringify(result));
  process.exit();
}
