import { networkInterfaces } from "node:os";
import process from "node:process";
import { whyNotSendfile } from "../sendfile.ts";
import { isDeno, isGranted } from "../runtime.ts";
import { adviceFor } from "../report/advice.ts";
import { authority } from "./listen.ts";

/** The URLs at which the server can be reached. */
export function urls(scheme: "http" | "https", host: string, port: number): string[] {
  const hosts = host === "0.0.0.0" || host === "::" ? ["localhost", ...addresses()] : [host];
  return hosts.map((host) => `${scheme}://${authority(host, port)}/`);
}

/** This machine's IPv4 addresses, if we may read them without a prompt. */
function addresses(): string[] {
  if (!isGranted({ name: "sys", kind: "networkInterfaces" })) return [];
  return Object.values(networkInterfaces()).flatMap((list = []) => list)
    .filter(({ family, internal }) => family === "IPv4" && !internal)
    .map(({ address }) => address);
}

/**
 * Lines that say whether files are sent by sendfile(2), and if not, how to turn it on. `known`: why this server
 * copies files even if sendfile(2) is available.
 */
export function zeroCopy(known: string | undefined): string[] {
  const reason = known ?? whyNotSendfile();
  if (reason === undefined) return ["zero-copy: on"];
  const advice = known === undefined ? adviceFor(reason) : undefined;
  return [`zero-copy: off (${reason})`, ...(advice === undefined ? [] : [`to turn it on: ${advice}`])];
}

/** The runtime's name and version: `Deno 2.9.6`, `Bun 1.4.5` */
export function runtimeName(): string {
  const { deno, bun } = process.versions;
  return isDeno ? `Deno ${deno}` : `Bun ${bun}`;
}
