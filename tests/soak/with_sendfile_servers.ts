/**
 * Servers with and without withSendfile. They answer /file/NAME, /text/LENGTH/PIECES and /way, which tells how a body
 * was sent. In the query: `id`, which comes back as X-Asked; `before` and `after`, turns of the event loop around the
 * look at the file; `busy`, milliseconds for which nothing else runs then; `race`, when the file gets other bytes:
 * 1, before the look; 2, after it; more, so many turns later.
 */
import { join } from "@std/path";
import { type BodyWay, serveFile, withSendfile } from "../../http/mod.ts";
import { turns } from "./lot.ts";
import { narrowDown } from "./narrow.ts";
import { KIB, MIB, type Site } from "./with_sendfile_files.ts";

/** What a client knows of a server. */
export interface Place {
  readonly port: number;
  /** Infinity: it has no files. */
  readonly threshold: number | null;
}

export interface Running extends Place {
  readonly errors: unknown[];
  /** What was told of each body, by the request's id. */
  readonly ways: Map<string, BodyWay[]>;
  close(): Promise<void>;
}

function idOf(url: string): string {
  return /[?&]id=([^&]+)/.exec(url)?.[1] ?? "";
}

export function textOf(id: string, length: number): string {
  return `the text for ${id}; `.repeat(length / 18 + 1).slice(0, length);
}

/** Blocks the thread for so long, and makes garbage. */
function busy(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end;) new Uint8Array(256 * KIB).fill(1);
}

function handlerOf({ root, changing }: Site, ways: Running["ways"]): (request: Request) => Promise<Response> {
  return async (request) => {
    const { pathname, searchParams: query } = new URL(request.url);
    const [, route, ...rest] = pathname.split("/");
    const id = query.get("id") ?? "";
    const headers = { "X-Asked": id };
    await turns(Number(query.get("before")));
    if (route === "way") return Response.json(ways.get(id) ?? []);
    if (route === "text") {
      const text = textOf(id, Number(rest[0]));
      const pieces = Number(rest[1]);
      if (pieces === 0) return new Response(text, { headers });
      const size = Math.ceil(text.length / pieces);
      let at = 0;
      const body = new ReadableStream({
        async pull(controller) {
          await turns(Number(query.get("after")));
          if (at < text.length) controller.enqueue(new TextEncoder().encode(text.slice(at, at += size)));
          else controller.close();
        },
      });
      return new Response(body, { headers: { ...headers, "Content-Length": String(text.length) } });
    }
    const file = changing[rest[0]];
    const race = Number(query.get("race"));
    if (race === 1) file.change();
    const response = await serveFile(request, join(root, rest[0]));
    response.headers.set("X-Asked", id);
    if (race === 2) file.change();
    else if (race > 2) turns(race).then(() => file.change());
    await turns(Number(query.get("after")));
    busy(Number(query.get("busy")));
    return response;
  };
}

interface Kind {
  /** Null: it is no server of files. */
  readonly threshold: number | null | undefined;
  /** Its connections have small buffers. */
  readonly narrow?: boolean;
}

const DEFAULT = 2 * MIB;
export const KINDS: readonly Kind[] = [
  { threshold: undefined },
  { threshold: 3_000_000, narrow: true },
  { threshold: 0 },
  { threshold: null },
];

export function serve(site: Site, { threshold, narrow }: Kind): Running {
  const errors: unknown[] = [];
  const ways = new Map<string, BodyWay[]>();
  const handler = handlerOf(site, ways);
  const onBody = (way: BodyWay, { url }: Request) => {
    const id = idOf(url);
    ways.set(id, [...ways.get(id) ?? [], way]);
  };
  const ending = new AbortController();
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    signal: ending.signal,
    onListen() {},
    onError(error) {
      errors.push(error);
      return new Response(null, { status: 599 });
    },
  }, threshold === null ? handler : withSendfile(handler, { threshold, onBody }));
  const { port } = server.addr;
  if (narrow) narrowDown(port);
  return {
    port,
    threshold: threshold === undefined ? DEFAULT : threshold,
    errors,
    ways,
    close() {
      ending.abort();
      return server.finished;
    },
  };
}
