import { createHash } from "node:crypto";
import { escapeHtml, PAGE_END, pageStart, POLICY } from "./html.ts";
import type { Entry } from "./listing_entry.ts";
import { descendsAtFirst, queryOf, type SortKey, type View } from "./listing_order.ts";

/** Entries on one page. A browser needs seconds to show tens of thousands of rows. */
export const PAGE_SIZE = 1000;

/** On a phone's screen an entry has two lines: the name, and below it size and time. */
const STYLE = `table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: 600; white-space: nowrap }
th, td { padding: .2rem .75rem .2rem 0; border-bottom: 1px solid #8883; vertical-align: top }
td:nth-child(2) { overflow-wrap: anywhere; width: 100% }
.mode { font-family: ui-monospace, monospace; white-space: nowrap }
.size { text-align: right; white-space: nowrap }
.time { white-space: nowrap; font-variant-numeric: tabular-nums }
footer, .empty { margin: 1rem 0; opacity: .75 }
.pages a { margin-right: 1rem }
@media (max-width: 40rem) {
  body { margin: 1rem auto }
  table, thead, tbody, tr { display: block }
  thead tr { display: flex; gap: 1rem; border-bottom: 1px solid #8883 }
  th, td { border: 0; padding: 0 }
  tbody tr { padding: .5rem 0; border-bottom: 1px solid #8883 }
  .mode, td:empty { display: none }
  td:nth-child(2) { display: block }
  td:nth-child(2) a { display: block }
  .size, .time { display: inline; margin-right: .75rem; opacity: .75; font-size: .875rem; text-align: left }
  th.size, th.time { opacity: 1; font-size: 1rem; margin: 0 }
}`;

/** Shows times in the reader's time zone. Without scripts they stay in UTC, as the column's head says. */
const SCRIPT = `for (const time of document.querySelectorAll("time")) {
  const date = new Date(time.dateTime);
  const local = new Date(date - date.getTimezoneOffset() * 60000);
  time.title = date.toLocaleString();
  time.textContent = local.toISOString().slice(0, 16).replace("T", " ");
}
for (const zone of document.querySelectorAll(".utc")) zone.remove();`;

/** A policy that allows only that script. */
export const LISTING_POLICY: string = `${POLICY}; script-src 'sha256-${
  createHash("sha256").update(SCRIPT).digest("base64")
}'`;

const COLUMNS: readonly [sort: SortKey, title: string][] = [
  ["name", "Name"],
  ["size", "Size"],
  ["date", 'Modified<span class="utc"> (UTC)</span>'],
];

/**
 * The page of a directory. `entries`: all entries, sorted; `names`: the names on the path from the root to the
 * directory.
 */
export function* listingPage(
  path: string,
  names: readonly string[],
  entries: readonly Entry[],
  view: View,
): Generator<string> {
  const pages = Math.max(Math.ceil(entries.length / PAGE_SIZE), 1);
  const page = Math.min(view.page, pages);
  const from = (page - 1) * PAGE_SIZE;
  const parent = names.length > 0
    ? `<tr><td class="mode"></td><td><a href="..">../</a></td><td></td><td></td></tr>\n`
    : "";
  yield `${pageStart(`Index of ${path}`, STYLE)}<h1>Index of ${trail(names)}</h1>
<table>
<thead><tr><th class="mode">Mode</th>${
    COLUMNS.map(([sort, title]) => columnHead(sort, title, view)).join("")
  }</tr></thead>
<tbody>
${parent}`;
  for (let i = from; i < Math.min(from + PAGE_SIZE, entries.length); i++) yield row(entries[i]);
  yield `</tbody>
</table>
`;
  if (entries.length === 0) yield `<p class="empty">This directory is empty.</p>\n`;
  if (pages > 1) yield pageLinks(view, page, pages);
  yield `<footer>${countOf(entries)}${
    pages > 1
      ? `, ${number(from + 1)} to ${number(Math.min(from + PAGE_SIZE, entries.length))} on this page`
      : ""
  }</footer>
<script>${SCRIPT}</script>
${PAGE_END}`;
}

/** Links to the directories from the root to this one. */
function trail(names: readonly string[]): string {
  const links = ["home", ...names].map((name, i) => {
    const up = names.length - i;
    return `<a href="${up === 0 ? "." : "../".repeat(up)}">${escapeHtml(name)}</a>/`;
  });
  return `<nav aria-label="Breadcrumb" style="display:inline">${links.join("")}</nav>`;
}

/** The head of a column: a link that sorts by it, or reverses the order if the listing is already sorted by it. */
function columnHead(sort: SortKey, title: string, view: View): string {
  const current = view.sort === sort;
  const descending = current ? !view.descending : descendsAtFirst(sort);
  const order = current ? ` aria-sort="${view.descending ? "descending" : "ascending"}"` : "";
  const arrow = current ? view.descending ? " ↓" : " ↑" : "";
  const type = sort === "size" ? ' class="size"' : sort === "date" ? ' class="time"' : "";
  const href = escapeHtml(queryOf({ sort, descending, page: 1 }));
  return `<th${type}${order}><a href="${href}" rel="nofollow">${title}${arrow}</a></th>`;
}

function pageLinks(view: View, page: number, pages: number): string {
  const link = (to: number, text: string) =>
    to >= 1 && to <= pages && to !== page
      ? `<a href="${escapeHtml(queryOf({ ...view, page: to }))}">${text}</a>`
      : "";
  const links = [link(1, "First"), link(page - 1, "Previous"), link(page + 1, "Next"), link(pages, "Last")];
  return `<nav class="pages" aria-label="Pages"><p>Page ${number(page)} of ${number(pages)}</p>${
    links.join("")
  }</nav>\n`;
}

function countOf(entries: readonly Entry[]): string {
  const directories = entries.filter(({ type }) => type === "directory").length;
  const files = entries.length - directories;
  return `${number(directories)} ${directories === 1 ? "directory" : "directories"}, ${number(files)} ${
    files === 1 ? "file" : "files"
  }`;
}

function number(value: number): string {
  return value.toLocaleString("en");
}

function row({ name, type, size, modified, mode }: Entry): string {
  const slash = type === "directory" ? "/" : "";
  // Without "./" a name such as "javascript:x" would be an absolute URL.
  const link = `<a href="./${encodeURIComponent(name)}${slash}">${escapeHtml(name)}${slash}</a>`;
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
