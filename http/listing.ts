import { join } from "@std/path";
import * as fs from "node:fs";
import { yieldToEventLoop } from "../runtime.ts";
import { quality } from "./accept.ts";
import { type Answer, answerRefusal, type Asked, type Fields } from "./answer.ts";
import { refusal } from "./file.ts";
import type { DirectoryRules } from "./options.ts";
import { type Directory, isPlain, openInside, type Target } from "./paths.ts";

/** One line of a listing. */
interface Entry {
  readonly name: string;
  readonly type: "directory" | "file";
  /** Bytes, of a file. */
  readonly size?: number;
  /** ISO 8601. */
  readonly modified: string;
}

/** Names in the order that people expect: file2 before file10. */
const ORDER = new Intl.Collator("en", { numeric: true });

/** What a directory holds, as a page, or as JSON where the client likes that better. */
export async function answerListing(
  asked: Asked,
  rules: DirectoryRules,
  root: string,
  { names, path }: Target,
  directory: Directory,
): Promise<Answer> {
  let entries: Entry[];
  try {
    entries = await readEntries(root, names, directory.path, rules);
  } catch (error) {
    return answerRefusal(asked, rules, refusal(error));
  }
  const json = prefersJson(asked);
  const shown = decodeURIComponent(path);
  const body = json
    ? `${JSON.stringify({ path: shown, entries })}\n`
    : page(shown, names.length > 0, entries);
  const headers: Fields = {
    "Cache-Control": "no-cache",
    "Content-Length": String(new TextEncoder().encode(body).length),
    "Content-Type": json ? "application/json; charset=utf-8" : "text/html; charset=utf-8",
    "Vary": "Accept",
  };
  if (!json) headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'";
  for (const [name, value] of rules.fields) headers[name] = value;
  return { status: 200, headers, body: asked.method === "HEAD" ? undefined : body };
}

function prefersJson({ field }: Asked): boolean {
  const accept = field("accept");
  if (!accept) return false;
  const json = quality(accept, "application/json", ["application/*"]) ?? 0;
  return json > (quality(accept, "text/html", ["text/*", "*/*"]) ?? 0);
}

/** How many entries are looked at before other work gets its turn. */
const BATCH = 100;

/** The entries that a request for them would find: neither what is hidden nor what leads out of the root. */
async function readEntries(
  root: string,
  names: readonly string[],
  path: string,
  rules: DirectoryRules,
): Promise<Entry[]> {
  const entries: Entry[] = [];
  const found = await fs.promises.readdir(path, { withFileTypes: true });
  for (const [i, { name }] of found.entries()) {
    if (i % BATCH === BATCH - 1) await yieldToEventLoop();
    const entry = look(root, [...names, name], path, rules);
    if (entry) entries.push(entry);
  }
  return entries.sort((a, b) => a.type === b.type ? ORDER.compare(a.name, b.name) : a.type < b.type ? -1 : 1);
}

function look(root: string, names: string[], directory: string, rules: DirectoryRules): Entry | undefined {
  const name = names.at(-1)!;
  if (!isPlain(name, rules.dotfiles)) return undefined;
  const stat = fs.lstatSync(join(directory, name), { throwIfNoEntry: false });
  if (!stat) return undefined; // gone since
  const modified = stat.mtime.toISOString();
  if (stat.isDirectory()) return { name, type: "directory", modified };
  if (stat.isFile()) return { name, type: "file", size: stat.size, modified };
  return stat.isSymbolicLink() ? lookBehind(root, names, rules) : undefined;
}

function lookBehind(root: string, names: string[], { dotfiles }: DirectoryRules): Entry | undefined {
  const name = names.at(-1)!;
  const found = openInside(root, names, dotfiles);
  if (found.kind === "refusal") return undefined;
  if (found.kind === "directory") {
    return { name, type: "directory", modified: fs.statSync(found.path).mtime.toISOString() };
  }
  fs.closeSync(found.fd);
  return { name, type: "file", size: found.size, modified: new Date(found.seconds * 1000).toISOString() };
}

const STYLE = `:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
h1 { font-size: 1.25rem; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: 600 }
th, td { padding: .2rem .75rem .2rem 0; border-bottom: 1px solid #8883; vertical-align: top }
td:first-child { overflow-wrap: anywhere }
.size { text-align: right; white-space: nowrap }
.time { white-space: nowrap; font-variant-numeric: tabular-nums }
a { text-decoration: none }
a:hover { text-decoration: underline }`;

/** A page that needs no script, and takes none. */
function page(path: string, hasParent: boolean, entries: Entry[]): string {
  const title = `Index of ${escape(path)}`;
  const parent = hasParent ? `<tr><td><a href="../">../</a></td><td></td><td></td></tr>\n` : "";
  return `<!doctype html>
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
<h1>${title}</h1>
<table>
<thead><tr><th>Name</th><th class="size">Size</th><th>Modified (UTC)</th></tr></thead>
<tbody>
${parent}${entries.map(row).join("")}</tbody>
</table>
</body>
</html>
`;
}

function row({ name, type, size, modified }: Entry): string {
  const slash = type === "directory" ? "/" : "";
  // "./": a name such as "javascript:x" would be an address of its own.
  const link = `<a href="./${encodeURIComponent(name)}${slash}">${escape(name)}${slash}</a>`;
  const bytes = size === undefined
    ? "<td></td>"
    : `<td class="size" title="${size} bytes">${human(size)}</td>`;
  const time = `<time datetime="${modified}">${modified.slice(0, 16).replace("T", " ")}</time>`;
  return `<tr><td>${link}</td>${bytes}<td class="time">${time}</td></tr>\n`;
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
