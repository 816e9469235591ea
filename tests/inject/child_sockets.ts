/** Transfers over one kind of socket, each under one rule: what came of each is printed as a line of JSON. */
import * as fs from "node:fs";
import process from "node:process";
import { libc as loadLibc, replaceLibc } from "../../ffi/load.ts";
import { sendfile } from "../../mod.ts";
import { bytes, concat, testFile, until } from "../support/data.ts";
import { kinds } from "../support/pairs.ts";
import { inject, lift, opened } from "./knobs.ts";
import { nameOf, type Rule, RULES, RUNTIME_RULES, SIZE } from "./rules.ts";

/** What came of a transfer. */
export interface Report {
  readonly rule: string;
  /** How often the rule was applied. */
  readonly hits: number;
  /** "ok" or the code of the error. */
  readonly outcome: string;
  readonly error?: string;
  /** Bytes of the file that the call, or its error, says were sent; and that have come. */
  readonly sent?: number;
  readonly received: number;
  /** What is wrong with what came. */
  readonly wrong?: string;
  /** Descriptors that are open and were not before. */
  readonly left: string[];
}

const kind = kinds.find(({ name }) => name === process.argv[2])!;

const CONTENT = bytes(SIZE, 9);
const HEADER = bytes(311, 3);
const TRAILER = bytes(97, 4);
const WHOLE = concat(HEADER, CONTENT, TRAILER);

async function transfer(rule: Rule | undefined, path: string): Promise<Report> {
  replaceLibc(undefined); // nothing is remembered of the rule before
  loadLibc();
  const before = opened().length;
  const fd = fs.openSync(path, "r");
  const pair = await kind.open({ small: kind.native });
  if (rule) inject(rule);
  // Read by the runtime, where it may.
  const sending = sendfile(pair.socket, rule?.caller === "runtime" ? path : fd, {
    header: HEADER,
    trailer: TRAILER,
    zeroCopy: !rule?.copy,
    timeout: 10_000,
  }).then((sent) => ({ outcome: "ok", sent }), (error) => ({
    outcome: String(error.code ?? error.name),
    sent: error.sent as number | undefined,
    error: `${error.name}: ${error.message}`,
  }));
  pair.peer.socket.resume(); // by now everything is full
  const result = await sending;
  const hits = rule ? lift(rule) : 0;
  pair.end();
  const received = await pair.peer.all();
  pair.close();
  fs.closeSync(fd);
  const wrong = received.findIndex((byte, i) => byte !== WHOLE[i]);
  await until("the descriptors to be closed", () => opened().length <= before).catch(() => {});
  return {
    rule: rule ? nameOf(rule) : "none",
    hits,
    ...result,
    received: Math.min(Math.max(0, received.length - HEADER.length), CONTENT.length),
    wrong: wrong >= 0
      ? `byte ${wrong} of ${received.length}`
      : result.outcome === "ok" && received.length !== WHOLE.length
      ? `${received.length} bytes of ${WHOLE.length}`
      : undefined,
    left: opened().length > before ? opened() : [],
  };
}

using file = testFile(CONTENT);
for (let i = 0; i < 2; i++) await transfer(undefined, file.path); // what is opened once for all
const rules = [...RULES.filter(({ copy }) => kind.native || copy), ...RUNTIME_RULES];
for (const rule of [undefined, ...rules, undefined]) {
  console.log(JSON.stringify(await transfer(rule, file.path)));
}
process.exit(0);
