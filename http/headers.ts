/** Header fields of a response: for each name one value, or a list if the field may occur several times. */
export type Fields = Record<string, string | string[]>;

/** Header fields as a caller gives them, in order. A name may occur several times, in any case. */
export type FieldList = readonly (readonly [name: string, value: string])[];

/**
 * Fields that frame a message or belong to the connection. Only the server may set them, because they depend on what
 * it sends.
 */
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

/**
 * Fields that describe a file and so are wrong on an error text or a redirect, in addition to those named Content-*.
 */
const DESCRIBING = new Set(["accept-ranges", "etag", "last-modified", "location"]);

/** Fields named Content-* that do not describe the content, or that a 304 must have (RFC 9110, 15.4.5). */
const NOT_CONTENT = new Set([
  "content-location",
  "content-security-policy",
  "content-security-policy-report-only",
]);

/**
 * The field, its value without the whitespace around it. Throws `TypeError` if it is not a valid header field, or not
 * one that the caller may set.
 */
export function checkField(name: string, value: string): [string, string] {
  if (SERVERS.has(name.toLowerCase())) {
    throw new TypeError(`${name} is set by the server according to what it sends`);
  }
  new Headers([[name, value]]);
  // `Headers` accepts and removes line ends around a value (Fetch standard, 2.2.2). Written as they are, they would end
  // the field or the whole head.
  return [name, value.replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "")];
}

/** Parses a line `Name: value`. Throws `TypeError`. */
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

/** Cache-Control, and its variants for particular caches (RFC 9213). */
const CACHING = /^(?:(?:.+-)?cache-control|surrogate-control)$/i;

/** Directives that allow caches to store a response that they otherwise would not store. */
const KEEPING = /(?:^|[\s,])(?:public|immutable|(?:max-age|s-maxage)\s*=\s*"?0*[1-9])/i;

/** Whether a field allows caches to store the response. */
export function letsCachesKeep(name: string, value: string): boolean {
  return CACHING.test(name) ? KEEPING.test(value) : name.toLowerCase() === "expires";
}

/** The value of `name`, in any case. */
export function valueOf(fields: Fields, name: string): string | undefined {
  const value = fields[keyOf(fields, name) ?? name];
  return Array.isArray(value) ? value.join(", ") : value;
}

/** The spelling of `name` in `fields`; undefined if the field is missing. */
function keyOf(fields: Fields, name: string): string | undefined {
  if (Object.hasOwn(fields, name)) return name;
  const lower = name.toLowerCase();
  return Object.keys(fields).find((key) => key.toLowerCase() === lower);
}

/**
 * Puts a caller's fields into `fields`. Each replaces the fields of the same name (in any case, and keeps the
 * existing spelling); several fields of one name in `list` stay several. `Vary` is merged: without our value a cache
 * could give one client's variant of a response to another.
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
 * Puts in only those of a caller's fields that are valid for any response. Our error text is not the file that the
 * caller's ETag or Content-Encoding describes, and caches must not keep an error, because a missing file may exist a
 * minute later.
 */
export function putTextFields(fields: Fields, list: FieldList, status: number): void {
  const holds = ([name, value]: FieldList[number]) =>
    !describesFile(name) && !(status >= 400 && letsCachesKeep(name, value));
  putFields(fields, list.filter(holds));
}

/** Merges two `Vary` values. */
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
  // A caller's Vary is also merged with an earlier handler's.
  return [
    ...first.filter(([name]) => name.toLowerCase() === "vary" || !names.has(name.toLowerCase())),
    ...second,
  ];
}

/** Removes the fields for which `unwanted` returns true. */
export function dropFields(fields: Fields, unwanted: (name: string) => boolean): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !unwanted(name)));
}

/** The fields one by one: a name with several values occurs several times. */
export function pairsOf(fields: Fields): [name: string, value: string][] {
  return Object.entries(fields).flatMap(([name, value]): [string, string][] =>
    typeof value === "string" ? [[name, value]] : value.map((value) => [name, value])
  );
}
