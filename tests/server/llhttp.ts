/** What llhttp, the parser of Node.js, makes of request heads. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { MIB } from "../support/site.ts";

/** What is sent behind a head, to see how much of it is its body. */
export const BEHIND = `5\r\nhello\r\n0\r\n\r\n${"x".repeat(100)}`;

/** Tells what llhttp makes of heads, which come as JSON, each in base64. */
const LLHTTP = `
const { HTTPParser, allMethods } = process.binding("http_parser");
const { heads, behind } = JSON.parse(require("node:fs").readFileSync(0, "latin1"));
const verdicts = heads.map((head) => {
  const bytes = Buffer.from(head, "base64");
  const parser = new HTTPParser();
  parser.initialize(HTTPParser.REQUEST, {}, 64 * 1024, HTTPParser.kLenientNone);
  const lines = [];
  let seen, body = "", complete = false;
  parser[HTTPParser.kOnHeaders] = (more) => void lines.push(...more);
  parser[HTTPParser.kOnHeadersComplete] = (major, minor, more = [], method, target, _, __, ___, keep) => {
    if (complete) return 0; // another message
    seen = { old: major === 1 && minor === 0, lines: [...lines, ...more], method: allMethods[method], target, keep };
    return 0;
  };
  parser[HTTPParser.kOnBody] = (chunk) => void (complete || (body += chunk.latin1Slice()));
  parser[HTTPParser.kOnMessageComplete] = () => void (complete = true);
  const feed = (chunk) => {
    const result = parser.execute(chunk);
    return result instanceof Error ? result.code : undefined;
  };
  const early = feed(bytes.subarray(0, -1));
  if (early || seen) return early ?? "its head ends before ours";
  const late = feed(bytes.subarray(-1));
  if (late || !seen) return late ?? "its head ends behind ours";
  if (!complete) feed(Buffer.from(behind));
  return { ...seen, body: complete ? body : "more" };
});
process.stdout.write(JSON.stringify(verdicts));
`;

/** A head as llhttp has understood it. */
export interface Understood {
  readonly old: boolean;
  readonly method: string;
  readonly target: string;
  /** Names and values by turns. */
  readonly lines: string[];
  readonly keep: boolean;
  /** Which part of BEHIND its body is; "more": not even all of it. */
  readonly body: string;
}

/** What llhttp makes of each: or the code of its error. */
export function llhttp(heads: string[]): (Understood | string)[] {
  const input = JSON.stringify({
    heads: heads.map((head) => Buffer.from(head, "latin1").toString("base64")),
    behind: BEHIND,
  });
  const { stdout, stderr, status } = spawnSync("node", ["-e", LLHTTP], { input, maxBuffer: 256 * MIB });
  assertEquals(status, 0, String(stderr));
  return JSON.parse(String(stdout));
}
