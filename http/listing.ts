import { join } from "node:path";
import * as fs from "node:fs";
import { isDeno } from "../runtime.ts";
import { quality } from "./rfc9110/quality.ts";
import { planFailure, type RequestHead, type ResponsePlan } from "./file_response.ts";
import { failure } from "./root/open_file.ts";
import { type Fields, putTextFields } from "./headers.ts";
import { encodeInTurns, nextStep } from "./in_turns.ts";
import type { Entry } from "./listing_entry.ts";
import { sorted, viewOf } from "./listing_order.ts";
import { LISTING_POLICY, listingPage } from "./listing_page.ts";
import type { ResolvedDirectoryOptions } from "./options.ts";
import { type Directory, isPlain, openInside, type Target } from "./root/request_target.ts";

/** The listing of a directory, as an HTML page, or as JSON if the client prefers it. */
export async function planListing(
  requestHead: RequestHead,
  resolved: ResolvedDirectoryOptions,
  root: string,
  { names, path, query }: Target,
  directory: Directory,
): Promise<ResponsePlan> {
  const view = viewOf(query);
  let entries: Entry[];
  try {
    entries = await sorted(await readEntries(root, names, directory.path, resolved), view);
  } catch (error) {
    return planFailure(requestHead, resolved, failure(error));
  }
  const json = prefersJson(requestHead);
  const shown = decodeURIComponent(path);
  const body = await encodeInTurns(json ? jsonOf(shown, entries) : listingPage(shown, names, entries, view));
  const headers: Fields = {
    "Cache-Control": "no-cache",
    "Content-Length": String(body.length),
    "Content-Type": json ? "application/json; charset=utf-8" : "text/html; charset=utf-8",
    "Vary": "Accept",
  };
  if (!json) headers["Content-Security-Policy"] = LISTING_POLICY;
  putTextFields(headers, resolved.fields, 200);
  return { status: 200, headers, body: requestHead.method === "HEAD" ? undefined : body };
}

function prefersJson({ field }: RequestHead): boolean {
  const accept = field("accept");
  if (!accept) return false;
  const json = quality(accept, "application/json", ["application/*"]) ?? 0;
  return json > (quality(accept, "text/html", ["text/*", "*/*"]) ?? 0);
}

/** The entries that a request could open: no hidden ones, and none that lead out of the root. */
async function readEntries(
  root: string,
  names: readonly string[],
  path: string,
  resolved: ResolvedDirectoryOptions,
): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const name of namesIn(path)) {
    await nextStep();
    const entry = look(root, [...names, name], path, resolved);
    if (entry) entries.push(entry);
  }
  return entries;
}

/**
 * The names in a directory. In Deno `node:fs` creates one array of all, which blocks the thread for 30 ms with 20,000
 * names (measured).
 */
async function* namesIn(directory: string): AsyncGenerator<string> {
  if (!isDeno) return yield* await fs.promises.readdir(directory);
  for await (const { name } of Deno.readDir(directory)) yield name;
}

/**
 * The stat of an entry. An entry that we cannot stat is left out, because a request for it would get 404: it was
 * deleted meanwhile, it is on another user's or a dead FUSE mount (EACCES also for root, ENOTCONN), or it is outside
 * of Deno's --allow-read.
 */
function look(
  root: string,
  names: string[],
  directory: string,
  resolved: ResolvedDirectoryOptions,
): Entry | undefined {
  const name = names.at(-1)!;
  if (!isPlain(name, resolved.dotfiles)) return undefined;
  try {
    const stat = fs.lstatSync(join(directory, name));
    return stat.isSymbolicLink() ? lookBehind(root, names, resolved) : entryOf(name, stat);
  } catch {
    return undefined;
  }
}

function lookBehind(
  root: string,
  names: string[],
  { dotfiles, followSymlinks }: ResolvedDirectoryOptions,
): Entry | undefined {
  const found = openInside(root, names, dotfiles, followSymlinks);
  if (found.kind === "failure") return undefined;
  if (found.kind === "directory") return entryOf(names.at(-1)!, fs.statSync(found.path));
  try {
    return entryOf(names.at(-1)!, fs.fstatSync(found.fd));
  } finally {
    fs.closeSync(found.fd);
  }
}

function entryOf(name: string, stat: fs.Stats): Entry | undefined {
  const mode = stat.mode & 0o777;
  const modified = isoOf(stat.mtime);
  const time = stat.mtime?.getTime() || 0;
  if (stat.isDirectory()) return { name, type: "directory", modified, mode, time };
  return stat.isFile() ? { name, type: "file", size: stat.size, modified, mode, time } : undefined;
}

/**
 * The date in ISO 8601, if it has that form: `Date` has a smaller range than file systems, and writes years above
 * 9999 differently.
 */
function isoOf(date: Date | null): string | undefined {
  const year = date?.getUTCFullYear() ?? NaN;
  return year >= 0 && year <= 9999 ? date!.toISOString() : undefined;
}

function* jsonOf(path: string, entries: Entry[]): Generator<string> {
  yield `{"path":${JSON.stringify(path)},"entries":[`;
  let comma = "";
  for (const { mode: _, time: __, ...entry } of entries) {
    yield comma + JSON.stringify(entry);
    comma = ",";
  }
  yield "]}\n";
}
