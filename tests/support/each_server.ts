/** A test of what is answered, on every kind of server that this runtime has, each with a directory of its own. */
import { assertEquals } from "@std/assert";
import { join, resolve } from "@std/path";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { openBelow } from "./data.ts";
import { test } from "./harness.ts";
import { ask, type Reply } from "./http_client.ts";
import { type Kind, KINDS, type Options } from "./http_servers.ts";
import { until } from "./site.ts";

/** A directory `root` to serve, beside nothing else, and the server's port. */
export interface Served {
  readonly kind: Kind["name"];
  readonly base: string;
  readonly root: string;
  readonly port: number;
  /** Writes a file below the root and gives its path. */
  add(name: string, content: string, modified?: Date | number): string;
  get(target: string, fields?: Record<string, string>, method?: string): Promise<Reply>;
}

/** The lines of a response's head with this name. */
export function linesOf({ head }: Reply, name: string): string[] {
  return head.split("\r\n").filter((line) => line.toLowerCase().startsWith(`${name.toLowerCase()}:`))
    .map((line) => line.slice(name.length + 1).trim());
}

/** A directory for one test, removed behind it. */
export async function inDirectory(body: (base: string) => void | Promise<void>): Promise<void> {
  const base = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "drop-in-")));
  try {
    await body(base);
    await until(() => openBelow(base).length === 0, "the files to be closed");
  } finally {
    fs.rmSync(base, { recursive: true });
  }
}

/** Writes a file, with its directories. */
export function write(path: string, content: string, modified?: Date | number): string {
  fs.mkdirSync(resolve(path, ".."), { recursive: true });
  fs.writeFileSync(path, content);
  if (modified !== undefined) fs.utimesSync(path, modified, modified);
  return path;
}

export interface EachOptions {
  options?: Options;
  prepare?: (served: Omit<Served, "port" | "get">) => void;
  skip?: (kind: Kind["name"]) => string | false | undefined;
}

/** Registers `body` for each kind of server. */
export function each(
  name: string,
  body: (served: Served) => Promise<void>,
  { options, prepare, skip }: EachOptions = {},
): void {
  for (const kind of KINDS) {
    const reason = skip?.(kind.name) || undefined;
    test(`${kind.name} ${name}`, () =>
      inDirectory(async (base) => {
        const root = join(base, "root");
        fs.mkdirSync(root);
        const place = {
          kind: kind.name,
          base,
          root,
          add: (name: string, content: string, modified?: Date | number) =>
            write(join(root, name), content, modified),
        };
        prepare?.(place);
        const server = await kind.start({ root }, options);
        try {
          await body({
            ...place,
            port: server.port,
            get: (target, fields = {}, method = "GET") =>
              ask(server.port, target, {
                method,
                fields: Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`).join(""),
              }),
          });
          assertEquals(server.errors, []);
        } finally {
          await server.close();
        }
      }), { skip: reason });
  }
}
