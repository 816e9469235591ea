/** Responses of one kind of server, each under one rule: what came of each is printed as a line of JSON. */
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { join } from "@std/path";
import process from "node:process";
import { replaceLibc } from "../../ffi/load.ts";
import { serveDir, withSendfile } from "../../http/mod.ts";
import { bytes, folder, until } from "../support/data.ts";
import { request } from "../support/http_client.ts";
import { KINDS, type Running } from "../support/http_servers.ts";
import { SlowClient } from "../children/slow_client.ts";
import { inject, lift, opened } from "./knobs.ts";
import { ACCEPT_RULES, nameOf, OPEN_RULES, type Rule, RULES, RUNTIME_RULES, SIZE } from "./rules.ts";

/** What came of a response, and of the next one without a rule. */
export interface Report {
  readonly rule: string;
  readonly hits: number;
  /** "complete", "cut", "none", or the status of another response. */
  readonly outcome: string;
  readonly next: string;
  readonly wrong?: string;
  readonly left: string[];
}

const CONTENT = Buffer.from(bytes(SIZE, 9));

function startWithSendfile(root: string): Running {
  const errors: unknown[] = [];
  const ending = new AbortController();
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, signal: ending.signal, onListen() {} },
    withSendfile((request) => serveDir(request, { fsRoot: root, quiet: true }), { threshold: 0 }),
  );
  const close = () => {
    ending.abort();
    return server.finished;
  };
  return { name: "withSendfile", port: server.addr.port, errors, close };
}

const root = fs.realpathSync(folder());
fs.writeFileSync(join(root, "file"), CONTENT);
const name = process.argv[2];
const server = name === "withSendfile"
  ? startWithSendfile(root)
  : await KINDS.find((kind) => kind.name === name)!.start({ root });

async function get(rule?: Rule): Promise<[outcome: string, wrong?: string]> {
  using client = new SlowClient(server.port, rule !== undefined);
  // Of all but the ends no runtime has a stream of its own: it is read here.
  const isRange = rule?.call === "pread";
  const expected = isRange ? CONTENT.subarray(1, -1) : CONTENT;
  const range = isRange ? `Range: bytes=1-${SIZE - 2}\r\n` : "";
  client.send(request("/file", { fields: `Connection: close\r\n${range}` }));
  if (rule) inject(rule); // only now: the client sends by FFI, too
  const all = await client.all();
  const end = all.indexOf("\r\n\r\n") + 4;
  if (end < 4) return ["none", all.length > 0 ? `${all.length} bytes without a head` : undefined];
  const head = all.subarray(0, end).toString("latin1");
  const body = all.subarray(end);
  const status = head.split(" ")[1];
  if (status !== (isRange ? "206" : "200")) return [status];
  if (!head.toLowerCase().includes(`\ncontent-length: ${expected.length}\r`)) return ["complete", head];
  const wrong = body.equals(expected.subarray(0, body.length)) ? undefined : `bytes of ${body.length}`;
  return [body.length === expected.length ? "complete" : "cut", wrong];
}

async function report(rule?: Rule): Promise<Report> {
  // Nothing is remembered of the rule before.
  replaceLibc(rule?.copy ? "off for this test" : undefined);
  const before = opened().length;
  const [outcome, wrong] = await get(rule);
  const hits = rule ? lift(rule) : 0;
  const [next, wrongNext] = await get();
  await until("the descriptors to be closed", () => opened().length <= before).catch(() => {});
  const left = opened().length > before ? opened() : [];
  return { rule: rule ? nameOf(rule) : "none", hits, outcome, next, wrong: wrong ?? wrongNext, left };
}

for (let i = 0; i < 3; i++) await report(); // what is opened once for all
const accepting = name === "FileServer" ? ACCEPT_RULES : []; // the others accept by themselves
for (const rule of [...RULES.filter(({ copy }) => !copy), ...OPEN_RULES, ...RUNTIME_RULES, ...accepting]) {
  console.log(JSON.stringify(await report(rule)));
}
fs.rmSync(root, { recursive: true });
process.exit(0);
