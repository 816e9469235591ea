/** Clients, each with habits drawn by lot: single connections, couples from one port, HTTP/2. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import process from "node:process";
import type { BodyWay } from "../../http/mod.ts";
import { ask } from "../support/http_client.ts";
import { type Draw, lot, turns } from "./lot.ts";
import { Tally } from "./scene.ts";
import { type Habit as Leaving, Wire } from "./wire.ts";
import { MIB } from "./with_sendfile_files.ts";
import { checkHead, describe, takeReply } from "./with_sendfile_replies.ts";
import {
  type Ask,
  drawAsk,
  drawFile,
  drawSmall,
  type Head,
  linesOf,
  text,
} from "./with_sendfile_requests.ts";
import type { Place } from "./with_sendfile_servers.ts";

/** What a client does in the middle. */
interface Habit extends Leaving {
  /** It says that it will ask no more, so many turns after it has asked. */
  readonly finishes?: number;
}

function habitOf(draw: Draw): Habit {
  const slow = ([undefined, undefined, undefined, "turns", "turns", "timer"] as const)[draw(6)];
  if (draw(2) === 0) return { slow, finishes: draw(3) === 0 ? draw(2) * draw(30) : undefined };
  const how = draw(2) === 0 ? "destroy" : "reset";
  if (draw(3) === 0) return { slow, leaves: { turns: draw(40), how } };
  return { slow, leaves: { after: [0, 1 + draw(500), draw(20_000), draw(6 * MIB)][draw(4)], how } };
}

/** The outcome of all requests. */
export class Done extends Tally {
  /** Ids of files' bodies that came whole. */
  readonly whole: string[] = [];
  /** Of bodies that ended early for clients that were still there, but had said that they would ask no more. */
  readonly cut: string[] = [];
}

/** Some places in a text of that length, in order. */
function cutsOf(draw: Draw, length: number): number[] {
  const cuts = Array.from({ length: draw(2) === 0 ? 0 : draw(6) }, () => draw(length));
  return cuts.sort((a, b) => a - b);
}

/** The requests that go out together. */
function drawBatch(draw: Draw, { threshold }: Place, id: (i: number) => string, connection?: string): Ask[] {
  const count = draw(2) === 0 ? 1 : 1 + draw(6);
  // One of them is large: the first, the last, or anyone.
  const at = threshold === null || draw(6) === 0 ? -1 : [0, 0, count - 1, draw(count)][draw(4)];
  return Array.from({ length: count }, (_, i) => {
    const small = threshold === null ? text : drawSmall;
    const details = i === at ? drawFile(draw) : small(draw, id(i));
    const asked = drawAsk(draw, details, id(i), connection);
    return i === count - 1 && draw(12) === 0 ? { ...asked, version: "1.0" } : asked;
  });
}

/**
 * Takes the end of a connection that a response has said to be over. Deno 2.9 goes on where a handler's response says
 * so: that is no error where the server sent the body itself.
 */
async function isEnd(wire: Wire, { id }: Ask, { port }: Place): Promise<boolean> {
  await Promise.race([wire.some(0), new Promise((resolve) => setTimeout(resolve, 200))]);
  if (wire.ended && wire.waiting === 0) return true;
  const ways = JSON.parse((await ask(port, `/way?id=${id}`)).body.toString()) as BodyWay[];
  if (ways.some(({ via }) => via === "native")) return false;
  const more = await wire.some(Infinity);
  assertEquals(more.length, 0, `behind the last response: ${more.toString("latin1", 0, 200)}`);
  return true;
}

interface Terms {
  readonly seed: string;
  readonly draw: Draw;
  /** For what comes in an order that differs from run to run. */
  readonly chance: Draw;
  readonly place: Place;
  readonly localPort?: number;
  /** Nothing is asked before that. */
  readonly idle?: Promise<unknown>;
}

/** One connection, from its beginning to its end. */
export async function connection(
  { seed, draw, chance, place, localPort, idle }: Terms,
  tally: Done,
): Promise<void> {
  const habit = habitOf(draw);
  const keep = [undefined, undefined, "keep-alive", "Keep-Alive"][draw(4)];
  const batches = 1 + draw(3);
  let history = `port ${place.port}, threshold ${place.threshold}, ${JSON.stringify(habit)}`;
  let count = 0;
  const wire = await Wire.to(place.port, habit, chance, localPort);
  let finished = false;
  try {
    await idle;
    if (idle) assert(wire.left || wire.waiting === 0, "bytes that nobody asked for");
    for (let batch = 1; batch <= batches; batch++) {
      const asks = drawBatch(draw, place, (i) => `${seed}.${count + i}`, keep);
      count += asks.length;
      tally.requests += asks.length;
      const sent = asks.map(linesOf).join("");
      const cuts = cutsOf(draw, sent.length);
      history += `\n${sent}-- ${cuts}`;
      const sending = wire.send(sent, cuts, chance).then(async () => {
        const { leaves, finishes } = habit;
        if (leaves?.turns !== undefined) turns(leaves.turns).then(() => wire.leave(leaves.how));
        if (finishes === undefined || batch < batches) return;
        await turns(finishes);
        finished = true;
        wire.socket.end();
      });
      for (const [i, asked] of asks.entries()) {
        const { whole, last } = await takeReply(wire, asked, place);
        if (whole) {
          tally.count(`${asked.file ? asked.method : "text"} whole`);
          if (asked.file && asked.method === "GET") tally.whole.push(asked.id);
        } else {
          if (!wire.left) await sending;
          assert(
            wire.left || finished || asked.truncated,
            `${asked.id} ended early, after ${wire.total} bytes: ${wire.error}`,
          );
          if (!wire.left && finished && !asked.truncated) tally.cut.push(asked.id);
          return tally.count(wire.left ? "left" : asked.truncated ? "truncated" : "finished, then cut");
        }
        // Deno ends connections of HTTP/1.0 also where it says that it keeps them.
        if (!last && asked.version !== "1.0") continue;
        if (!last) return tally.count("HTTP/1.0 kept");
        if (!(await isEnd(wire, asked, place))) return tally.count("not closed by Deno");
        tally.count("closed by the server");
        return tally.count("unanswered", asks.length - 1 - i);
      }
      await sending;
    }
    assert(wire.left || wire.waiting === 0, "bytes that nobody asked for");
  } catch (error) {
    const { stack } = error as Error;
    throw new Error(`${seed}: ${stack}\nafter ${wire.total} bytes of ${history}`, { cause: error });
  } finally {
    wire.socket.destroy();
  }
}

let nextPort = process.pid * 37;

/** A port that several connections may begin at, as no other has it. */
function ownPort(): number {
  return 18_000 + nextPort++ % 14_000;
}

/** Two connections from one address and port, to two servers. */
export async function couple(seed: number, places: readonly Place[], tally: Done): Promise<void> {
  const draw = lot(seed);
  const first = draw(places.length);
  const second = (first + 1 + draw(places.length - 1)) % places.length;
  const localPort = ownPort();
  const { promise, resolve } = Promise.withResolvers<void>();
  const one = (place: Place, half: number, idle?: Promise<unknown>) =>
    connection({
      seed: `${seed}.${half}`,
      draw: lot(draw(2 ** 30)),
      chance: lot(~seed * half),
      place,
      localPort,
      idle,
    }, tally).catch((error) => {
      if (error.code === "EADDRINUSE" || error.code === "EADDRNOTAVAIL") tally.count("port taken");
      else throw error;
    });
  const idle = draw(2) === 0 ? promise : turns(draw(20));
  tally.count("couple");
  await Promise.all([one(places[first], 1).finally(resolve), one(places[second], 2, idle)]);
}

/** A connection with HTTP/2, where all is asked at once. */
export async function frames(seed: number, place: Place, tally: Done): Promise<void> {
  const draw = lot(seed);
  const { leaves } = habitOf(draw);
  const asks = drawBatch(draw, place, (i) => `${seed}.${i}`);
  tally.requests += asks.length;
  // node:http2 brings Deno 2.9 down where it leaves in the middle (SIGSEGV).
  using client = Deno.createHttpClient({ http1: false, http2: true });
  const leaving = new AbortController();
  let total = 0;
  const one = async ({ fields: { connection: _, ...headers }, ...asked }: Ask) => {
    const ask = { ...asked, fields: headers };
    const chunks: Uint8Array[] = [];
    let head: Head | undefined;
    try {
      const response = await fetch(`http://127.0.0.1:${place.port}${asked.path}`, {
        method: asked.method,
        headers: { "accept-encoding": "identity", ...headers }, // or it asks for more
        client,
        signal: leaving.signal,
      });
      const fields = Object.fromEntries(response.headers);
      head = { status: response.status, version: "2", text: JSON.stringify(fields), headers: fields };
      for await (const chunk of response.body ?? []) {
        chunks.push(chunk);
        total += chunk.length;
        if (leaves?.after !== undefined && total >= leaves.after) leaving.abort();
      }
    } catch (error) {
      assert(
        leaving.signal.aborted || asked.truncated,
        `${asked.id}, ${asked.path}: ${error}, ${(error as Error).cause}`,
      );
    }
    if (!head) return;
    assertEquals(head.headers["x-asked"], asked.id);
    const body = Buffer.concat(chunks);
    const expected = Buffer.concat(checkHead(head, ask, place));
    const right = expected.subarray(0, body.length);
    if (!body.equals(right)) describe(body, right, 0, ask);
    if (body.length === expected.length) {
      tally.count("HTTP/2 whole");
      if (asked.file && asked.method === "GET") tally.whole.push(asked.id);
    } else {
      const what = `${asked.id}: ${body.length} of ${expected.length} bytes`;
      assert(leaving.signal.aborted || asked.truncated, what);
    }
  };
  const all = asks.map(one);
  if (leaves?.turns !== undefined) turns(leaves.turns).then(() => leaving.abort());
  else if (leaves?.after === 0) leaving.abort();
  const ended = await Promise.allSettled(all);
  for (const result of ended) {
    if (result.status === "rejected") throw new Error(`HTTP/2: ${result.reason.stack}`);
  }
}
