/** Sends the file `b` of a directory while `a` is open too, and prints what arrived. */
import * as fs from "node:fs";
import process from "node:process";
import { sendfile } from "../../mod.ts";
import { libc } from "../../ffi/load.ts";
import { socketPair } from "../support/helpers.ts";

const directory = process.argv[2];
fs.openSync(`${directory}/a`, "r");
const file = "Deno" in globalThis ? Deno.openSync(`${directory}/b`) : `${directory}/b`;
using pair = socketPair();
const sent = await sendfile(pair.here, file);
const c = libc();
if (typeof c === "string") throw new Error(c);
const into = new Uint8Array(sent);
c.library.call.read(pair.there, into, c.library.wide(sent));
console.log(new TextDecoder().decode(into));
process.exit(0);
