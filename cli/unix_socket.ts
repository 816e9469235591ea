import * as fs from "node:fs";
import * as net from "node:net";
import process from "node:process";
import type { FileServer } from "../server/server.ts";
import { Failure } from "./arguments.ts";

/**
 * Listens on the unix socket at `path`, and replaces a stale socket of an earlier server. Resolves to a function that
 * removes the socket. Rejects with {@link Failure}.
 */
export async function listenUnix(server: FileServer, path: string): Promise<() => void> {
  await checkFree(path);
  // At the end Bun removes the path that it listened on, even if that is a successor's socket by then. So we listen
  // on our own name and rename it.
  const own = `${path}.${process.pid}`;
  try {
    server.listen({ path: own });
    fs.renameSync(own, path);
  } catch (error) {
    fs.rmSync(own, { force: true });
    throw failure(path, (error as Error).message);
  }
  const { dev, ino } = fs.lstatSync(path, { bigint: true });
  return () => {
    const there = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
    // Another server may have replaced the socket meanwhile.
    if (there?.dev === dev && there.ino === ino) fs.unlinkSync(path);
  };
}

function failure(path: string, reason: string): Failure {
  return new Failure(`cannot listen on ${path}: ${reason}`, 1);
}

/** Throws if `path` must not be replaced: a server listens there, or it is not a socket. */
async function checkFree(path: string): Promise<void> {
  let there: fs.Stats | undefined;
  try {
    there = fs.lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw failure(path, (error as Error).message);
  }
  if (!there) return;
  if (!there.isSocket()) throw failure(path, "another file has this name");
  if (await answers(path)) throw failure(path, "another server listens there");
}

/** Whether a server listens. Only ECONNREFUSED means that none does; any other error may come from a busy server. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code !== "ECONNREFUSED"));
  });
}
