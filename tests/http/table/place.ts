/**
 * What the tests of the table share: on every kind of server, a directory with files of known content, asked over raw
 * sockets and compared byte for byte.
 */
import { assert, assertEquals } from "@std/assert";
import { join, resolve } from "@std/path";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { bytes, openBelow } from "../../support/data.ts";
import { test } from "../../support/harness.ts";
import { ask, assertSame, Client, type Reply, request } from "../../support/http_client.ts";
import { type Kind, KINDS, type Options, type Running } from "../../support/http_servers.ts";
import { MIB, until } from "../../support/site.ts";

/** One size for each way a body can leave: in one packet with the head, from memory, by sendfile(2). */
export const SIZES = [10, 100_000, 3 * MIB] as const;

export const CONTENT = new Map<number, Buffer>(SIZES.map((size) => [size, Buffer.from(bytes(size, size))]));

/** Larger than the socket buffers between server and client. */
export const LARGE = 24 * MIB;

export const largeContent = () => Buffer.alloc(LARGE, bytes(1_000_003));

/** With a fraction of a second, which no HTTP date has. */
export const MODIFIED = new Date("2021-03-04T05:06:07.890Z");
export const LAST_MODIFIED = "Thu, 04 Mar 2021 05:06:07 GMT";
export const SECOND_BEFORE = "Thu, 04 Mar 2021 05:06:06 GMT";
export const SECOND_AFTER = "Thu, 04 Mar 2021 05:06:08 GMT";

/** What a browser sends when it follows a link. */
export const BROWSER = { Accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8" };

/** A directory `root` to serve, beside a secret, and the server that serves it. */
export class Place {
  readonly base = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "table-")));
  readonly root = join(this.base, "root");
  server!: Running;

  constructor(readonly kind: Kind, readonly options: Options = {}) {
    fs.mkdirSync(this.root);
    fs.writeFileSync(join(this.base, "secret.txt"), "SECRET");
    for (const size of SIZES.slice(0, 2)) this.add(`${size}.bin`, CONTENT.get(size)!);
  }

  get port(): number {
    return this.server.port;
  }

  /** Writes the files of SIZES that are not there yet, and gives SIZES. */
  sizes(): readonly number[] {
    if (!fs.existsSync(this.path(`${SIZES[2]}.bin`))) this.add(`${SIZES[2]}.bin`, CONTENT.get(SIZES[2])!);
    return SIZES;
  }

  path(name: string): string {
    return join(this.root, name);
  }

  add(name: string, content: string | Buffer): Buffer {
    fs.mkdirSync(resolve(this.path(name), ".."), { recursive: true });
    fs.writeFileSync(this.path(name), content);
    fs.utimesSync(this.path(name), MODIFIED, MODIFIED);
    return Buffer.from(content);
  }

  async get(target: string, fields: Fields = {}): Promise<Reply> {
    return this.wellFormed(await ask(this.port, target, { fields: lines(fields) }));
  }

  async head(target: string, fields: Fields = {}): Promise<Reply> {
    return this.wellFormed(await ask(this.port, target, { method: "HEAD", fields: lines(fields) }));
  }

  async tag(target: string, fields: Fields = {}): Promise<string> {
    return (await this.get(target, fields)).headers.etag;
  }

  /** Asks one after the other on one connection, where excess bytes of a body would be read as the next head. */
  async inTurn(targets: [string, Fields][]): Promise<Reply[]> {
    const client = await Client.to(this.port);
    const replies: Reply[] = [];
    try {
      for (const [target, fields] of targets) {
        client.send(request(target, { fields: lines(fields) }));
        replies.push(this.wellFormed(await client.reply()));
      }
      client.send(request("/10.bin", { fields: "Connection: close\r\n" }));
      assertSame((await client.reply()).body, CONTENT.get(10)!, "behind them");
      assertEquals((await client.rest()).length, 0);
    } finally {
      client.close();
    }
    return replies;
  }

  /** Asserts that no field is repeated or malformed, and that a length frames the body wherever the server can do that. */
  wellFormed(reply: Reply): Reply {
    const { head, headers, body } = reply;
    const fields = head.trimEnd().split("\r\n").slice(1);
    for (const field of fields) assert(/^[!#$%&'*+.^_`|~\w-]+: [\x20-\x7e]*$/.test(field), field);
    assertEquals(Object.keys(headers).length, fields.length, `a field comes twice in ${head}`);
    if (headers["transfer-encoding"] === undefined) return reply;
    // Bun.serve sends every stream in chunks, and these bodies can only be streams.
    const parts = headers["content-type"].startsWith("multipart/") && body.length > 100_000;
    const streamed = parts || this.options.rateLimit !== undefined;
    assert(streamed && this.kind.name === "Bun.serve", `not framed by a length: ${head}`);
    return reply;
  }

  /** Files below the root that this process has open. */
  held(): string[] {
    return openBelow(this.root);
  }
}

export type Fields = Record<string, string>;

export function lines(fields: Fields): string {
  return Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`).join("");
}

interface EachOptions {
  options?: Options;
  /** Serves this file of the root alone. */
  file?: string;
  skip?: (kind: Kind["name"]) => string | false | undefined;
}

/** Registers a test for every kind of server, each with a directory of its own. */
export function each(
  name: string,
  body: (place: Place) => Promise<void>,
  { options, file, skip = () => undefined }: EachOptions = {},
): void {
  for (const kind of KINDS) {
    test(`${kind.name} ${name}`, async () => {
      const place = new Place(kind, options);
      try {
        place.server = await kind.start(file ? { file: place.path(file) } : { root: place.root }, options);
        try {
          await body(place);
          assertEquals(place.server.errors, []);
          await until(() => place.held().length === 0, "the files to be closed");
        } finally {
          await place.server.close();
        }
      } finally {
        fs.rmSync(place.base, { recursive: true });
      }
    }, { skip: skip(kind.name) || undefined });
  }
}

/** Runs `body` with such a directory that no server serves; no file of it may stay open. */
export async function inPlace(body: (place: Place) => Promise<void>): Promise<void> {
  const place = new Place(KINDS[0]);
  try {
    await body(place);
    await until(() => place.held().length === 0, "the files to be closed");
  } finally {
    fs.rmSync(place.base, { recursive: true });
  }
}
