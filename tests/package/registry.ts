/**
 * A stand-in of the registry JSR on loopback: what `deno publish` brings is what `deno add` and `deno run jsr:` get.
 *
 * It has the part of JSR's protocol that Deno uses (https://jsr.io/docs/api): versions are published as one tar file,
 * and served file by file, with a list of their checksums.
 */
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "@std/path";

interface Version {
  /** The directory with what was published. */
  readonly directory: string;
  readonly exports: Record<string, string>;
  readonly manifest: Record<string, { size: number; checksum: string }>;
}

/** A registry, with what was published to it. */
export class Registry {
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch((error) => {
      response.writeHead(500).end(JSON.stringify({ code: "internal", message: String(error) }));
    });
  });
  readonly #directory: string;
  /** By name (`@scope/name`) and version. */
  readonly #packages = new Map<string, Map<string, Version>>();
  /** What was asked for and is not there. */
  readonly missing: string[] = [];
  url = "";

  /** `directory`: where to keep what is published. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Resolves once it can be asked. */
  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  /** Publishes a directory as it is. */
  add(name: string, version: string, directory: string): void {
    const config = JSON.parse(fs.readFileSync(join(directory, "deno.json"), "utf8"));
    const exports = typeof config.exports === "string" ? { ".": config.exports } : config.exports;
    const manifest: Version["manifest"] = {};
    for (const path of filesIn(directory)) {
      const bytes = fs.readFileSync(join(directory, path));
      const checksum = `sha256-${createHash("sha256").update(bytes).digest("hex")}`;
      manifest[`/${path}`] = { size: bytes.length, checksum };
    }
    let versions = this.#packages.get(name);
    if (!versions) this.#packages.set(name, versions = new Map());
    versions.set(version, { directory, exports, manifest });
  }

  /** Paths of the files that were published. */
  files(name: string, version: string): string[] {
    return Object.keys(this.#packages.get(name)!.get(version)!.manifest);
  }

  /** The directory that holds them. */
  directoryOf(name: string, version: string): string {
    return this.#packages.get(name)!.get(version)!.directory;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent(new URL(request.url!, this.url).pathname);
    const json = (body: unknown, status = 200) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    const published = /^\/api\/scopes\/([^/]+)\/packages\/([^/]+)\/versions\/([^/]+)$/.exec(path);
    if (published && request.method === "POST") {
      const [, scope, name, version] = published;
      this.#publish(`@${scope}/${name}`, version, await bytesOf(request));
      return json({ id: "1", status: "success", error: null });
    }
    if (/^\/api\/scopes\/[^/]+\/packages\/[^/]+$/.test(path)) return json({});
    if (path.startsWith("/api/publish_status/")) return json({ id: "1", status: "success", error: null });
    const [, name, rest] = /^\/(@[^/]+\/[^/]+)\/(.+)$/.exec(path) ?? [];
    const versions = this.#packages.get(name);
    if (versions && rest === "meta.json") {
      const latest = [...versions.keys()].at(-1);
      return json({ latest, versions: Object.fromEntries([...versions.keys()].map((key) => [key, {}])) });
    }
    for (const [number, { directory, exports, manifest }] of versions ?? []) {
      if (rest === `${number}_meta.json`) return json({ exports, manifest });
      const file = rest.startsWith(`${number}/`) ? rest.slice(number.length) : "";
      if (!(file in manifest)) continue;
      response.writeHead(200, { "content-type": file.endsWith(".ts") ? "text/typescript" : "text/plain" });
      return void response.end(fs.readFileSync(join(directory, file)));
    }
    this.missing.push(path);
    json({ code: "notFound", message: path }, 404);
  }

  #publish(name: string, version: string, tarball: Buffer): void {
    const directory = join(this.#directory, name.replace("/", "__"), version);
    fs.mkdirSync(directory, { recursive: true });
    const { status, stderr } = spawnSync("tar", ["xzf", "-", "-C", directory], { input: tarball });
    if (status !== 0) throw new Error(`tar: ${stderr}`);
    this.add(name, version, directory);
  }
}

async function bytesOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Paths of regular files, relative to `directory`. */
export function filesIn(directory: string): string[] {
  return (fs.readdirSync(directory, { recursive: true }) as string[])
    .filter((path) => fs.statSync(join(directory, path)).isFile());
}
