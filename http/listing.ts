import { join } from "node:path";
import * as fs from "node:fs";
import { isDeno } from "../runtime.ts";
import { quality } from "./rfc9110/quality.ts";
import { planFailure, type RequestHead, type ResponsePlan } from "./file_response.ts";
import { failure } from "./root/open_file.ts";
import { type Fields, putTextFields } from "./headers.ts";
import { encodeInTurns, nextStep, sortInTurns } from "./in_turns.ts";
import type { ResolvedDirectoryOptions } from "./options.ts";
import { type Directory, isPlain, openInside, type Target } from "./root/request_target.ts";

/** One line of a listing. */
interface Entry {
  readonly name: string;
  readonly type: "directory" | "file";
  /** Bytes, of a file. */
  readonly size?: number;
  /** ISO 8601; undefined where that has no form for the time (RFC 3339, 1: years 0 to 9999). */
  readonly modified?: string;
  /** The permission bits. */
  readonly mode: number;
}

/** Names in the order that people expect: file2 before file10. */
const ORDER = new Intl.Collator("en", { numeric: true });

/** What a directory holds, as a page, or as JSON where the client likes that better. */
export async function planListing(
  requestHead: RequestHead,
  resolved: ResolvedDirectoryOptions,
  root: string,
  { names, path }: Target,
  directory: Directory,
): Promise<ResponsePlan> {
  let entries: Entry[];
  try {
    entries = await readEntries(root, names, directory.path, resolved);
  } catch (error) {
    return planFailure(requestHead, resolved, failure(error));
  }
  const json = prefersJson(requestHead);
  const shown = decodeURIComponent(path);
  const body = await encodeInTurns(json ? jsonOf(shown, entries) : pageOf(shown, names, entries));
  const headers: Fields = {
    "Cache-Control": "no-cache",
    "Content-Length": String(body.length),
    "Content-Type": json ? "application/json; charset=utf-8" : "text/html; charset=utf-8",
    "Vary": "Accept",
  };
  if (!json) headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'";
  putTextFields(headers, resolved.fields, 200);
  return { status: 200, headers, body: requestHead.method === "HEAD" ? undefined : body };
}

function prefersJson({ field }: RequestHead): boolean {
  const accept = field("accept");
  if (!accept) return false;
  const json = quality(accept, "application/json", ["application/*"]) ?? 0;
  return json > (quality(accept, "text/html", ["text/*", "*/*"]) ?? 0);
}

/** The entries that a request for them would find: neither what is hidden nor what leads out of the root. */
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
  return sortInTurns(entries, inOrder);
}

/** In Deno `node:fs` makes one array of them all, which holds the thread for 30 ms where they are 20,000 (measured). */
async function* namesIn(directory: string): AsyncGenerator<string> {
  if (!isDeno) return yield* await fs.promises.readdir(directory);
  for await (const { name } of Deno.readDir(directory)) yield name;
}

/** Directories first; and of names that the collator takes for the same (1 and 01) always the same one. */
function inOrder(a: Entry, b: Entry): number {
  if (a.type !== b.type) return a.type < b.type ? -1 : 1;
  return ORDER.compare(a.name, b.name) || (a.name < b.name ? -1 : 1);
}

/**
 * An entry that cannot be looked at is left out, as a request for it finds nothing: it is gone since, on another user's
 * or a dead FUSE mount (EACCES also for root, ENOTCONN), outside of what Deno's --allow-read names.
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
  if (stat.isDirectory()) return { name, type: "directory", modified, mode };
  return stat.isFile() ? { name, type: "file", size: stat.size, modified, mode } : undefined;
}

/** `Date` holds fewer times than a file system, and writes a year beyond 9999 in a form of its own. */
function isoOf(date: Date | null): string | undefined {
  const year = date?.getUTCFullYear() ?? NaN;
  return year >= 0 && year <= 9999 ? date!.toISOString() : undefined;
}

const STYLE = `:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
h1 { font-size: 1.25rem; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: 600 }
th, td { padding: .2rem .75rem .2rem 0; border-bottom: 1px solid #8883; vertical-align: top }
td:nth-child(2) { overflow-wrap: anywhere }
.mode { font-family: ui-monospace, monospace; white-space: nowrap }
.size { text-align: right; white-space: nowrap }
.time { white-space: nowrap; font-variant-numeric: tabular-nums }
a { text-decoration: none }
a:hover { text-decoration: underline }`;

function* jsonOf(path: string, entries: Entry[]): Generator<string> {
  yield `{"path":${JSON.stringify(path)},"entries":[`;
  let comma = "";
  for (const { mode: _, ...entry } of entries) {
    yield comma + JSON.stringify(entry);
    comma = ",";
  }
  yield "]}\n";
}

/** A page that needs no script, and takes none. */
function* pageOf(path: string, names: readonly string[], entries: Entry[]): Generator<string> {
  const title = `Index of ${escape(path)}`;
  const parent = names.length > 0
    ? `<tr><td></td><td><a href="..">../</a></td><td></td><td></td></tr>\n`
    : "";
  yield `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>
${STYLE}
</style>
</head>
<body>
<h1>Index of ${trail(names)}</h1>
<table>
<thead><tr><th>Mode</th><th>Name</th><th class="size">Size</th><th>Modified (UTC)</th></tr></thead>
<tbody>
${parent}`;
  for (const entry of entries) yield row(entry);
  yield `</tbody>
</table>
</body>
</html>
`;
}

/** Links to the directories from the root to this one. */
function trail(names: readonly string[]): string {
  return ["home", ...names].map((name, i) => {
    const up = names.length - i;
    return `<a href="${up === 0 ? "." : "../".repeat(up)}">${escape(name)}</a>/`;
  }).join("");
}

function row({ name, type, size, modified, mode }: Entry): string {
  const slash = type === "directory" ? "/" : "";
  // "./": a name such as "javascript:x" would be an address of its own.
  const link = `<a href="./${encodeURIComponent(name)}${slash}">${escape(name)}${slash}</a>`;
  const bytes = size === undefined
    ? "<td></td>"
    : `<td class="size" title="${size} bytes">${human(size)}</td>`;
  const time = modified === undefined
    ? ""
    : `<time datetime="${modified}">${modified.slice(0, 16).replace("T", " ")}</time>`;
  const permissions = `<td class="mode">${modeText(type, mode)}</td>`;
  return `<tr>${permissions}<td>${link}</td>${bytes}<td class="time">${time}</td></tr>\n`;
}

const BITS = ["---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx"];

/** `d rwx r-x r-x` */
function modeText(type: Entry["type"], mode: number): string {
  const parts = [mode >> 6, mode >> 3, mode].map((bits) => BITS[bits & 7]);
  return `${type === "directory" ? "d" : "-"} ${parts.join(" ")} `;
}

function human(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

function escape(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}
