/** Header fields of a response: one value of each name, or several where a name may come several times. */
export type Fields = Record<string, string | string[]>;

/** Header fields as a caller gives them, in order; a name may come several times, in any case. */
export type FieldList = readonly (readonly [name: string, value: string])[];

/** Fields that frame a message or belong to the connection. The server sets them by what it really sends. */
const SERVERS = new Set([
  "connection",
  "content-length",
  "content-range",
  "date",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Fields that describe a file and so are wrong on an error text or a redirect, beside those named Content-*. */
const DESCRIBING = new Set(["accept-ranges", "etag", "last-modified", "location"]);

/** Named Content-* and yet not about the content, or wanted on a 304 (RFC 9110, 15.4.5). */
const NOT_CONTENT = new Set([
  "content-location",
  "content-security-policy",
  "content-security-policy-report-only",
]);

/** Throws `TypeError` for what is no header field, or is not for the caller to set. */
export function checkField(name: string, value: string): [string, string] {
  if (SERVERS.has(name.toLowerCase())) {
    throw new TypeError(`${name} is set by the server, by what it sends`);
  }
  new Headers([[name, value]]);
  return [name, value];
}

/** A field from its line, `Name: value`. Throws `TypeError`. */
export function parseField(line: unknown): [string, string] {
  const colon = typeof line === "string" ? line.indexOf(":") : 0;
  if (typeof line !== "string" || colon < 1) {
    throw new TypeError(`a header must be "Name: value", not ${JSON.stringify(line)}`);
  }
  return checkField(line.slice(0, colon).trim(), line.slice(colon + 1).trim());
}

/** Whether only the server can know the value of `name`. */
export function isServers(name: string): boolean {
  return SERVERS.has(name.toLowerCase());
}

/** Whether `name` is about the content of the response that it is sent with. */
export function describesContent(name: string): boolean {
  const lower = name.toLowerCase();
  return lower.startsWith("content-") && !NOT_CONTENT.has(lower);
}

/** Whether `name` belongs to a file's response and never to an error text or a redirect. */
export function describesFile(name: string): boolean {
  return describesContent(name) || DESCRIBING.has(name.toLowerCase());
}

/** Cache-Control, and its kin for some caches only (RFC 9213). */
const CACHING = /^(?:(?:.+-)?cache-control|surrogate-control)$/i;

/** Directives that let a response be kept that would not be kept without them. */
const KEEPING = /(?:^|[\s,])(?:public|immutable|(?:max-age|s-maxage)\s*=\s*"?0*[1-9])/i;

/** Whether a field lets caches keep the response that it is sent with. */
export function letsCachesKeep(name: string, value: string): boolean {
  return CACHING.test(name) ? KEEPING.test(value) : name.toLowerCase() === "expires";
}

/** The value of `name`, in any case. */
export function valueOf(fields: Fields, name: string): string | undefined {
  const value = fields[keyOf(fields, name) ?? name];
  return Array.isArray(value) ? value.join(", ") : value;
}

/** How `fields` spell `name`; undefined where they do not have it. */
function keyOf(fields: Fields, name: string): string | undefined {
  if (Object.hasOwn(fields, name)) return name;
  const lower = name.toLowerCase();
  return Object.keys(fields).find((key) => key.toLowerCase() === lower);
}

/**
 * Puts a caller's fields into `fields`: each takes the place of those of its name there, in any case and in the
 * spelling that is there; several of one name in `list` stay several. `Vary` is merged: without ours a cache would
 * give one client's form of a response to another.
 */
export function putFields(fields: Fields, list: FieldList): void {
  if (list.length === 0) return;
  const put = new Map<string, { readonly name: string; readonly values: string[] }>();
  for (const [name, value] of list) {
    const lower = name.toLowerCase();
    const known = put.get(lower);
    if (known) known.values.push(value);
    else put.set(lower, { name, values: [value] });
  }
  for (const [lower, { name, values }] of put) {
    const key = keyOf(fields, lower) ?? name;
    if (lower === "vary") fields[key] = [...values, valueOf(fields, key) ?? ""].reduce(mergeVary);
    else fields[key] = values.length === 1 ? values[0] : values;
  }
}

/**
 * Puts those of a caller's fields in that hold for any response: a text of ours is not the file that the caller's ETag
 * or Content-Encoding is about, and what is missing now may be there in a minute.
 */
export function putTextFields(fields: Fields, list: FieldList, status: number): void {
  const holds = ([name, value]: FieldList[number]) =>
    !describesFile(name) && !(status >= 400 && letsCachesKeep(name, value));
  putFields(fields, list.filter(holds));
}

/** What both `Vary` fields say. */
function mergeVary(one: string, other: string): string {
  const names: string[] = [];
  for (const name of `${one},${other}`.split(",").map((name) => name.trim())) {
    if (name === "*") return "*";
    if (name !== "" && !names.some((known) => known.toLowerCase() === name.toLowerCase())) names.push(name);
  }
  return names.join(", ");
}

/** `first` with the fields of `second`, which replace those of the same name. */
export function overlay(first: FieldList, second: FieldList): FieldList {
  if (first.length === 0) return second;
  if (second.length === 0) return first;
  const names = new Set(second.map(([name]) => name.toLowerCase()));
  // A caller's Vary adds to another's as it does to ours.
  return [
    ...first.filter(([name]) => name.toLowerCase() === "vary" || !names.has(name.toLowerCase())),
    ...second,
  ];
}

/** Takes the fields out that `unwanted` names. */
export function dropFields(fields: Fields, unwanted: (name: string) => boolean): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !unwanted(name)));
}
