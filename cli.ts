#!/usr/bin/env bun
/**
 * A static file server: `deno run -A jsr:@zerocopy/sendfile/cli [DIR]`, `deno task serve [DIR]` or `bun cli.ts [DIR]`.
 *
 * @module
 */

import { resolve } from "node:path";
import * as fs from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { runtimeName, urls, zeroCopy } from "./cli/banner.ts";
import { type Command, Failure, HELP } from "./cli/arguments.ts";
import { parseWithEnvironment } from "./cli/environment.ts";
import { listen } from "./cli/listen.ts";
import { siteOf } from "./cli/handler.ts";
import { openBrowser } from "./cli/open_browser.ts";
import { readTls } from "./cli/tls.ts";
import { underWayLines } from "./cli/under_way.ts";
import { listenUnix } from "./cli/unix_socket.ts";
import { commandLine, isWorker, startWorker, work, Workers } from "./cli/workers.ts";
import { isBun, isDeno } from "./runtime.ts";
import { FileServer } from "./server/server.ts";
import { VERSION } from "./version.ts";

/**
 * The absolute path of the directory, which must exist. A symlink is not resolved, because it may be changed to point
 * elsewhere while the server runs.
 */
function rootOf(directory: string): string {
  const path = resolve(directory);
  try {
    if (fs.statSync(path).isDirectory()) return path;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    throw new Failure(code === "ENOENT" ? `there is no directory ${path}` : message, 1);
  }
  throw new Failure(`${path} is not a directory`, 1);
}

function createServer(root: string, command: Command): FileServer {
  try {
    return new FileServer(siteOf(root, command));
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure((error as Error).message, 2); // an invalid header field
  }
}

async function serve(command: Command): Promise<void> {
  if (!isDeno && !isBun) {
    throw new Failure("the static server needs Deno or Bun; Node.js has serveStatic of ./node", 1);
  }
  const { host, workers, unix } = command;
  const root = rootOf(command.directory);
  const tls = command.tls && readTls(command.tls);
  const server = createServer(root, command);
  const at = (port: number | undefined, shared = false) => listen(server, { host, shared, tls }, port);
  if (isWorker) {
    // deno-lint-ignore require-await -- turns what listen throws into a rejection
    return work({ listen: async (port) => at(port, true), stop: () => stop(server) });
  }
  const files = command.tls ? [command.tls.cert, command.tls.key] : [];
  const pool = workers > 1
    ? new Workers((port) => startWorker({ root, host, port, files }), endWith)
    : undefined;
  endOnSignals(pool ?? { stop: () => stop(server) }, () => pool?.kill());
  if (unix !== undefined) {
    const remove = await listenUnix(server, unix);
    process.on("exit", remove);
    sayServing(
      root,
      [`unix:${resolve(unix)}`],
      isDeno ? "Deno does not expose the descriptor of a unix socket" : undefined,
    );
    return;
  }
  const port = at(command.port);
  if (pool) {
    // First listened without SO_REUSEPORT, which fails if another server has the port: with it, the workers would
    // silently share the port with that server.
    server.close();
    await pool.listen(port, workers);
  }
  const addresses = urls(tls ? "https" : "http", host, port);
  sayServing(root, addresses, tls && "TLS: this process encrypts what it sends");
  if (command.open) openBrowser(addresses[0]);
}

/** `whyCopied`: why files are copied on these addresses even if sendfile(2) is available in this process. */
function sayServing(root: string, addresses: string[], whyCopied: string | undefined): void {
  console.log(`Serving ${root}`);
  for (const address of addresses) console.log(address);
  for (const line of zeroCopy(whyCopied)) console.log(line);
  console.log(`sendfile ${VERSION} on ${runtimeName()}; press Ctrl-C to stop`);
}

function stop(server: FileServer): Promise<void> {
  for (const line of underWayLines(server)) console.log(line);
  return server.stop();
}

/** On the first signal the server finishes the responses in flight and stops; on the second it stops at once. */
function endOnSignals(server: { stop(): Promise<void> }, atOnce: () => void): void {
  let stopping = false;
  for (const [signal, number] of [["SIGINT", 2], ["SIGTERM", 15]] as const) {
    process.on(signal, () => {
      if (stopping) {
        atOnce();
        process.exit(128 + number);
      }
      stopping = true;
      server.stop().then(() => process.exit(0));
    });
  }
}

/** Prints the reason and ends the process. */
function endWith({ message, code }: Failure): never {
  console.error(`error: ${message}`);
  process.exit(code);
}

/**
 * Runs the command line, as this module does when it is the main module. For programs that import it, such as a
 * compiled one. The process ends when the server ends, or with code 1 or 2 after printing what is wrong.
 *
 * @example Your own program, for `bun build --compile` or `deno compile`
 * ```ts no-eval
 * import { main } from "@zerocopy/sendfile/cli";
 *
 * await main(["--port=8080", "public"]);
 * ```
 */
export async function main(args: string[] = commandLine): Promise<void> {
  try {
    if (args[0] === "doctor") {
      const { doctor } = await import("./cli/doctor.ts");
      process.exit(await doctor(args.slice(1)));
    }
    const command = parseWithEnvironment(args);
    if (command.help) console.log(HELP);
    else if (command.version) console.log(VERSION);
    else await serve(command);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    endWith(error);
  }
}

/**
 * Whether this module is the main module. Node.js has `import.meta.main` from 24.2 on; before that we compare the
 * program's path.
 */
function isProgram(): boolean {
  if (import.meta.main !== undefined) return import.meta.main;
  const path = process.argv[1];
  return path !== undefined && fs.realpathSync(path) === fileURLToPath(import.meta.url);
}

if (isProgram()) await main();
