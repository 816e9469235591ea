/** Takes responses off a connection, and compares each byte with what was asked for. */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import type { Wire } from "./wire.ts";
import { FILES, KIB } from "./with_sendfile_files.ts";
import type { Ask, Head } from "./with_sendfile_requests.ts";
import type { Place } from "./with_sendfile_servers.ts";

/** The head of the next response; undefined where the connection ended in it. */
async function takeHead(wire: Wire, { id }: Ask): Promise<Head | undefined> {
  const text = (await wire.upTo("\r\n\r\n")).toString("latin1");
  assert("HTTP/1.".startsWith(text.slice(0, 7)), `no head: ${JSON.stringify(text.slice(0, 200))}`);
  const asked = /^x-asked: (.*)\r$/im.exec(text)?.[1];
  assert(asked === undefined || asked === id, `the response to ${asked}, not ${id}`);
  if (!text.endsWith("\r\n\r\n")) return undefined;
  assertEquals(asked, id, text);
  const [, ...lines] = text.trimEnd().split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const name = line.split(":")[0].toLowerCase();
    const value = line.slice(line.indexOf(":") + 2);
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  return { status: Number(text.slice(9, 12)), version: text.slice(5, 8), text, headers };
}

/** Whether the connection ends after this response. */
function closes({ version, headers }: Head): boolean {
  const { connection = "" } = headers;
  return /\bclose\b/.test(connection) || version === "1.0" && connection !== "keep-alive";
}

function lengthOf(body: readonly Uint8Array[]): number {
  return body.reduce((sum, { length }) => sum + length, 0);
}

/** Checks the head, and gives the body that it promises. */
export function checkHead(head: Head, asked: Ask, { threshold }: Place): readonly Uint8Array[] {
  const { headers, status, text } = head;
  const body = asked.body(head);
  const length = lengthOf(body);
  if (!asked.path.includes("race=")) assertEquals(status, asked.status, text);
  assertEquals(headers["transfer-encoding"], undefined, text);
  const told = headers["content-length"] ?? (head.version === "2" ? "0" : undefined); // which frames nothing by it
  assertEquals(told, String(length), text);
  if (headers.connection === "close" && asked.version === "1.1") {
    const large = asked.file && asked.method === "GET" && length >= threshold! && length > 16 * KIB;
    assert(large && threshold !== null, `the connection is to end: ${text}`);
  }
  return asked.method === "HEAD" ? [] : body;
}

/** Takes the response to `asked`, and tells whether it is complete and whether the connection ends after it. */
export async function takeReply(
  wire: Wire,
  asked: Ask,
  place: Place,
): Promise<{ whole: boolean; last?: boolean; sent?: boolean }> {
  const head = await takeHead(wire, asked);
  if (!head) return { whole: false };
  let at = 0;
  for (const piece of checkHead(head, asked, place)) {
    for (let from = 0; from < piece.length;) {
      const some = await wire.some(piece.length - from);
      if (some.length === 0) return { whole: false };
      const expected = piece.subarray(from, from + some.length);
      if (!some.equals(expected)) describe(some, expected, at, asked);
      from += some.length;
      at += some.length;
    }
  }
  return { whole: true, last: closes(head) };
}

/** Throws an error that says where the wrong bytes are, and which file they come from. */
export function describe(some: Buffer, expected: Uint8Array, at: number, { id, path }: Ask): never {
  const wrong = some.findIndex((byte, i) => byte !== expected[i]);
  const sample = some.subarray(wrong, wrong + 16);
  const from = FILES.flatMap(({ name, content }) => {
    const place = sample.length < 8 ? -1 : Buffer.from(content).indexOf(sample);
    return place < 0 ? [] : [`byte ${place} of ${name}`];
  });
  const what = from.join() || JSON.stringify(sample.toString("latin1"));
  throw new Error(`byte ${at + wrong} of ${id}, ${path}, is ${what}`);
}
