/**
 * Many connections at once to every kind of server, with everything drawn by lot: what arrives is what was asked for,
 * byte for byte and in order, or where an end was made of it a prefix of that.
 */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { assertBytes, openBelow, until } from "../support/data.ts";
import { isBun } from "../support/harness.ts";
import { ask, assertSame } from "../support/http_client.ts";
import { type Draw, lot } from "./lot.ts";
import { type Ask, drawAsk, type Head } from "./requests.ts";
import { openSockets, playSeeds, Tally } from "./scene.ts";
import { CUTS, reports, type Running, serveFiles, serveNative, serveNode, serveOwn } from "./servers.ts";
import { MIB, Site, TEXT } from "./site.ts";
import { type Habit, Wire } from "./wire.ts";

const AT_ONCE = 48;

/** The head of the next response; undefined where the connection ended in it. */
async function takeHead(wire: Wire, { id }: Ask): Promise<Head | undefined> {
  for (;;) {
    const head = (await wire.upTo("\r\n\r\n")).toString("latin1");
    if (/^HTTP\/1\.1 10[03] /.test(head) && head.endsWith("\r\n\r\n")) continue;
    assert("HTTP/1.1 ".startsWith(head.slice(0, 9)), `no head: ${JSON.stringify(head.slice(0, 200))}`);
    const asked = /^x-asked: (.*)\r$/im.exec(head)?.[1];
    assert(asked === undefined || asked === id, `the response to ${asked}`);
    if (!head.endsWith("\r\n\r\n")) return undefined;
    const status = Number(head.slice(9, 12));
    if (asked === undefined && status === 400 && wire.babbled) return undefined;
    assertEquals(asked, id, head);
    const [, ...lines] = head.trimEnd().split("\r\n");
    const headers = Object.fromEntries(
      lines.map((line) => [line.split(":")[0].toLowerCase(), line.slice(line.indexOf(":") + 2)]),
    );
    return { status, head, headers };
  }
}

/** The chunks of a body, as far as they came. */
async function takeChunked(wire: Wire): Promise<{ body: Buffer; whole: boolean }> {
  const chunks: Buffer[] = [];
  for (;;) {
    const line = (await wire.upTo("\r\n")).toString("latin1");
    const cut = () => ({ body: Buffer.concat(chunks), whole: false });
    if (!line.endsWith("\r\n")) return cut();
    assert(/^[0-9a-f]+\r\n$/i.test(line), `no size of a chunk: ${JSON.stringify(line.slice(0, 100))}`);
    const size = parseInt(line, 16);
    const chunk = await wire.take(size);
    chunks.push(chunk);
    const end = (await wire.take(2)).toString("latin1");
    assert("\r\n".startsWith(end), `behind a chunk: ${JSON.stringify(end)}`);
    if (end.length < 2) return cut();
    if (size === 0) return { body: Buffer.concat(chunks), whole: true };
  }
}

/** Takes the response to `asked`: whether it came to its end, its Connection, and whether its file was truncated. */
async function takeReply(
  wire: Wire,
  asked: Ask,
  draw: Draw,
): Promise<{ whole: boolean; connection?: string; truncated?: boolean }> {
  const head = await takeHead(wire, asked);
  if (!head) return { whole: false };
  const { headers } = head;
  const failed = asked.changing && head.status === 500;
  if (!failed) assertEquals(head.status, asked.status, head.head);
  for (const [name, value] of Object.entries(asked.fields ?? {})) {
    assertEquals(headers[name], value, `${name} of ${head.head}`);
  }
  const promised = asked.body(head);
  const { "content-length": length, "transfer-encoding": coding, connection } = headers;
  if (asked.status === 304) return { whole: true, connection };
  if (coding === undefined) assertEquals(length, String(promised.length), head.head);
  else assert(asked.chunked && coding === "chunked" && length === undefined, head.head);
  if (asked.method === "HEAD") return { whole: true, connection };
  if (draw(2) === 0) asked.changing?.change();
  const { body, whole } = coding === undefined
    ? await wire.take(promised.length).then((body) => ({ body, whole: body.length === promised.length }))
    : await takeChunked(wire);
  if (!body.equals(promised.subarray(0, body.length))) assertBytes(body, promised.subarray(0, body.length));
  if (whole) assertEquals(body.length, promised.length);
  return { whole, connection, truncated: !failed && asked.changing?.isTruncated(promised.length) };
}

interface Whole {
  readonly server: Running;
  readonly asked: Ask;
}

/** What came of everything. */
class Done {
  /** Responses that came whole. */
  readonly whole: Whole[] = [];
  readonly tally = new Tally();
}

function habitOf(draw: Draw): Habit {
  const slow = draw(3) === 0 ? "turns" : undefined;
  if (draw(4) > 0) return { slow };
  const after = [0, 1 + draw(2000), draw(100_000), draw(6 * MIB)][draw(4)];
  return { slow, leaves: { after, how: draw(2) === 0 ? "destroy" : "reset" } };
}

/** Some places in a text, in order; many of them in the end of a head. */
function cutsOf(draw: Draw, text: string): number[] {
  const cuts = Array.from({ length: draw(2) === 0 ? 0 : draw(6) }, () => {
    const at = draw(text.length);
    const end = text.indexOf("\r\n\r\n", at);
    return draw(2) === 0 || end < 0 ? at : end + 1 + draw(3);
  });
  return cuts.sort((a, b) => a - b);
}

/** One connection, from its beginning to its end. */
async function connection(
  seed: number,
  site: Site,
  servers: readonly Running[],
  { tally, whole: wholes }: Done,
): Promise<void> {
  const draw = lot(seed);
  const chance = lot(~seed); // for what comes in an order that differs from run to run
  const server = servers[draw(servers.length)];
  const habit = habitOf(draw);
  const files = server.name === "FileServer";
  const stops = server.cuts.includes("stop");
  const batches = 1 + draw(4);
  const endings = ENDINGS[server.name];
  const ending = endings[draw(endings.length)];
  const gives = draw(20) === 0; // up in the middle of a request
  const wire = await Wire.to(server.port, habit, chance).catch((error) => {
    if (!files || server.cuts.length === 0) throw error;
  });
  if (!wire) return tally.count("refused");
  let fragile = server.cuts.length > 0 && !stops;
  let over = false; // the server has said so
  let history = `${server.name}, ${JSON.stringify(habit)}, ${ending}`;
  let count = 0;
  try {
    for (let batch = 1; batch <= batches && !over; batch++) {
      const asks: Ask[] = [];
      const final = batch === batches;
      const many = files && draw(20) === 0;
      for (let left = 1 + draw(many ? 300 : 6); left > 0; left--) {
        const asked = drawAsk(draw, site, server, `${seed}.${count++}`, many);
        asks.push(asked);
        if (asked.last && server.name === "Bun.serve") left = 1;
      }
      tally.requests += asks.length;
      let loose = false; // it may end early
      const texts = asks.map((asked) => asked.text);
      // Behind the first line.
      if (final && ending === "closes") texts.push(texts.pop()!.replace("\r\n", "\r\nConnection: close\r\n"));
      if (final && ending === "babbles") {
        const babble = [
          "\0\r\n\r\n",
          "GET\r\n\r\n",
          "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        ];
        texts.push(babble[draw(3)]);
        // What comes behind is to be read over, so that no reset takes the answers from the client.
        if (files && draw(2) === 0) texts.push(TEXT.toString("latin1", 0, draw(100_000)));
        wire.babbled = true;
        loose = !files;
      }
      const text = texts.join("");
      const cuts = cutsOf(draw, text);
      history += `\n${texts.map((text) => JSON.stringify(text.slice(0, 300))).join("\n")}\n-- ${cuts}`;
      fragile ||= asks.some(({ cut }) => cut);
      // Where one is cut off while requests are still to be read, the reset takes what came before from the client.
      loose ||= fragile || asks.some(({ changing }) => changing === site.truncated);
      loose ||= final && ending === "closes" && asks.at(-1)!.burdened!; // it may be answered before it is read
      // node:http drops what it still holds when a client shuts down its sending direction, and a transfer that
      // takes longer than a second sees that the socket is destroyed.
      if (final && ending === "shuts down" && !files) loose ||= asks.length > 1 || !asks[0].prompt;
      const upTo = gives && final ? draw(text.length) : text.length;
      const sending = wire.send(text.slice(0, upTo), cuts.filter((at) => at < upTo), chance).then(() => {
        if (upTo < text.length) wire.leave(draw(2) === 0 ? "destroy" : "reset");
        else if (final && ending === "shuts down") wire.socket.end();
      });
      for (const asked of asks) {
        const { whole, connection, truncated } = await takeReply(wire, asked, chance);
        if (whole) {
          tally.count("whole");
          wholes.push({ server, asked });
          over = files && connection === "close";
          if (files && !(over && stops)) assertEquals(connection, asked.connection, "Connection");
          if (over) break;
          continue;
        }
        await sending;
        // What nobody answered need not have come before the end.
        const stopped = stops && !server.asked.has(asked.id);
        assert(
          wire.left || loose || truncated || stopped,
          `${asked.id}: ended after ${wire.total} bytes; ${JSON.stringify(server.sent.get(asked.id))}`,
        );
        return tally.count(wire.left ? "left" : truncated ? "truncated" : stopped ? "stopped" : "cut off");
      }
      await sending;
    }
    if (!wire.left && (over || ending !== "leaves")) {
      const rest = (await wire.take(Infinity)).toString("latin1");
      const refused = /^HTTP\/1\.1 400 /.test(rest);
      assert(rest === "" || wire.babbled && refused && !over, `at the end: ${rest.slice(0, 200)}`);
      if (files && wire.babbled && !over && !wire.left && server.cuts.length === 0) {
        assert(rest.endsWith("\r\nConnection: close\r\n\r\n400 Bad Request\n"), `no 400: ${rest}`);
      }
    } else if (!wire.babbled) assertEquals(wire.waiting, 0, "bytes that nobody asked for");
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`${message}\nafter ${wire.total} bytes of ${history}`, { cause: error });
  } finally {
    wire.socket.destroy();
  }
}

/** What a client does when it has all that it asked for. */
const ENDINGS: Record<Running["name"], string[]> = {
  "Deno.serve": ["leaves", "closes"],
  "Bun.serve": ["leaves", "closes"],
  "serve": ["leaves", "closes"],
  "node:http": ["leaves", "closes", "shuts down", "babbles"],
  "FileServer": ["leaves", "shuts down", "babbles"], // each request may want it to be the last
};

/** What the servers say they have sent is what was taken. */
function checkSent(servers: readonly Running[], { whole, tally: { counts, requests } }: Done): void {
  for (const { server, asked } of whole) {
    if (asked.fromFile === undefined || !reports(server)) continue;
    const sent = server.sent.get(asked.id);
    assertEquals(sent?.status, asked.status, asked.text);
    assertEquals(sent?.bytes, asked.fromFile, asked.text);
    assertEquals(sent?.problem, undefined, asked.text);
  }
  for (const { sent } of servers) {
    for (const { way, problem = "none" } of sent.values()) {
      for (const key of [way, `problem: ${problem}`]) counts[key] = (counts[key] ?? 0) + 1;
      assert(
        ["none", "the client left", "the file became shorter", "TruncatedError"].includes(problem),
        problem,
      );
    }
  }
  if (requests < 500) return; // too few for all to happen
  assert(counts.whole > requests / 8, `${counts.whole} of ${requests} responses came whole`);
  assert(counts.sendfile > 0, "nothing went by sendfile");
}

/** One round over all servers of this runtime. */
export async function httpRound(seed: number, requests: number): Promise<Tally> {
  const site = new Site();
  const servers: Running[] = [];
  const done = new Done();
  const { tally, whole } = done;
  try {
    servers.push(
      await serveNode(site, {}),
      await serveNode(site, { narrow: true }),
      await serveNode(site, { narrow: true, cuts: CUTS }),
      serveNative(site),
      ...(isBun ? [] : [serveOwn(site)]),
      serveFiles(site, {}),
      serveFiles(site, { narrow: true }),
      serveFiles(site, { limited: true }),
      serveFiles(site, { cuts: ["stop"] }),
      serveFiles(site, { narrow: true, cuts: ["stop"] }),
      serveFiles(site, { narrow: true, cuts: ["close"] }),
    );
    await site.learn(servers[0].port);
    const before = openSockets();
    await playSeeds(
      { seed, requests, atOnce: AT_ONCE, tally },
      (seed) => connection(seed, site, servers, done),
    );
    await until("the files are closed", () => openBelow(site.root).length === 0);
    await until("the sockets are closed", () => openSockets() <= before);
    for (const { port } of servers) {
      const { name, content } = site.files.at(-1)!;
      const { body } = await ask(port, `/static/${name}`);
      assertSame(body, Buffer.from(content), "the process still answers");
    }
    await until("all is reported", () => {
      return whole.every(({ server, asked }) =>
        asked.fromFile === undefined || !reports(server) || server.sent.has(asked.id)
      );
    });
    checkSent(servers, done);
    for (const { name, errors } of servers) {
      // A stream that must end early can only fail, and Deno.serve tells its onError of that.
      assertEquals(errors.filter((error) => !/became shorter/.test(String(error))), [], name);
    }
    return tally;
  } finally {
    await Promise.all(site.changing.map((file) => file.end()));
    await Promise.all(servers.map((server) => server.close()));
    fs.rmSync(site.root, { recursive: true });
  }
}
