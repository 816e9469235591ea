/**
 * A static file server: `deno task serve [DIR]`, or `bun cli.ts [DIR]`.
 *
 * @module
 */

import { resolve } from "@std/path";
import * as fs from "node:fs";
import { networkInterfaces } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { type LogEntry, logLine } from "./http/log.ts";
import * as bun from "./http/static_bun.ts";
import * as node from "./http/static_node.ts";
import { whyNotSendfile } from "./mod.ts";

const HELP = `Serves the files of a directory over HTTP, by sendfile(2) where it can be used.

Usage: deno task serve [options] [DIR]
       bun cli.ts [options] [DIR]

DIR is the current directory by default.

  -p, --port <port>  TCP port; 0 for any that is free (default: 8000)
      --host <host>  address to listen on (default: 0.0.0.0, all of IPv4)
  -h, --help         this text`;

const isBun = "Bun" in globalThis;

/** What the command line asks for. */
interface Command {
  directory: string;
  host: string;
  port: number;
  help: boolean;
}

/** An error to be told in one line, and the exit code. */
class Failure extends Error {
  constructor(message: string, readonly code: 1 | 2) {
    super(message);
  }
}

function parse(args: string[]): Command {
  const { values, positionals } = read(args);
  const port = values.port ?? "8000";
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) {
    throw new Failure(`--port must be a number from 0 to 65535, not ${JSON.stringify(port)}`, 2);
  }
  if (positionals.length > 1) throw new Failure(`one directory at most, not ${positionals.length}`, 2);
  return {
    directory: positionals[0] ?? ".",
    host: values.host ?? "0.0.0.0",
    port: Number(port),
    help: values.help ?? false,
  };
}

function read(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        port: { type: "string", short: "p" },
        host: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    const [first] = (error as Error).message.split(/\.?\n|\. /);
    throw new Failure(`${first} (see --help)`, 2);
  }
}

/** The directory's real path, which all that is served must be below. */
function rootOf(directory: string): string {
  const path = resolve(directory);
  try {
    const root = fs.realpathSync.native(path);
    if (fs.statSync(root).isDirectory()) return root;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    throw new Failure(code === "ENOENT" ? `there is no directory ${path}` : message, 1);
  }
  throw new Failure(`${path} is not a directory`, 1);
}

async function start({ directory, host, port }: Command): Promise<void> {
  const root = rootOf(directory);
  const log = (entry: LogEntry) => console.log(logLine(entry));
  const listening = await listen(root, { host, port, log });
  console.log(`Serving ${root}`);
  for (const url of urls(host, listening)) console.log(url);
  console.log(`zero-copy: ${zeroCopy()}`);
}

async function listen(root: string, options: Parameters<typeof node.listen>[1]): Promise<number> {
  try {
    return await (isBun ? bun : node).listen(root, options);
  } catch (error) {
    const { host, port } = options;
    const { code, message } = error as { code?: string; message: string };
    const reason = code === "EADDRINUSE" ? "the port is in use" : message;
    throw new Failure(`cannot listen on ${authority(host, port)}: ${reason}`, 1);
  }
}

function authority(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Where the server can be reached. */
function urls(host: string, port: number): string[] {
  const hosts = host === "0.0.0.0" || host === "::" ? ["localhost", ...addresses()] : [host];
  return hosts.map((host) => `http://${authority(host, port)}/`);
}

/** This machine's IPv4 addresses, where it may be asked for them without a prompt. */
function addresses(): string[] {
  const allowed = isBun ||
    Deno.permissions.querySync({ name: "sys", kind: "networkInterfaces" }).state === "granted";
  if (!allowed) return [];
  return Object.values(networkInterfaces()).flatMap((list = []) => list)
    .filter(({ family, internal }) => family === "IPv4" && !internal)
    .map(({ address }) => address);
}

function zeroCopy(): string {
  if (isBun) {
    return process.platform === "linux" ? "on (Bun.serve's own, from 1 MiB up)" : "left to Bun.serve";
  }
  const reason = whyNotSendfile();
  return reason === undefined ? "on" : `off (${reason})`;
}

/** Runs the command line. */
async function main(args: string[]): Promise<void> {
  try {
    const command = parse(args);
    if (command.help) return console.log(HELP);
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(0));
    await start(command);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    console.error(`error: ${error.message}`);
    process.exit(error.code);
  }
}

if (import.meta.main) await main(process.argv.slice(2));
