import { type Encoding, ENCODINGS } from "./precompressed.ts";

/** What is known of a file when its response's head is made. */
export interface FileInfo {
  /** Bytes. */
  readonly size: number;
  /** The last modification. */
  readonly mtime: Date;
}

/** Options of a response with a file: of `serveFile`, `sendFile`, and of all that serves a directory. */
export interface ServeFileOptions {
  /** The `Cache-Control` field, as it is; instead of `maxAge` and `immutable`. @default none */
  cacheControl?: string;
  /** Seconds for which caches may keep the file: `Cache-Control: public, max-age=N`. @default none */
  maxAge?: number;
  /** The file never changes under its name: `immutable` in `Cache-Control`. Wants `maxAge`. @default false */
  immutable?: boolean;
  /**
   * Send `FILE.br`, `FILE.zst` or `FILE.gz` in place of `FILE` to who accepts it, where there is one; `true` or the
   * codings (`br`, `zstd`, `gzip`) in order of preference. A sibling is not checked to be of the same content. @default
   * false
   */
  precompressed?: boolean | readonly string[];
  /**
   * More header fields: `"Name: value"` lines for every response, or what a function gives for a file. A field takes
   * the place of the one that would be there otherwise; those that frame the body (Content-Length, Content-Range,
   * Transfer-Encoding) are refused with `TypeError`. @default none
   */
  headers?: readonly string[] | ((path: string, stat: FileInfo) => HeadersInit);
  /** Bytes of body per second and response. @default no limit */
  rateLimit?: number;
}

/** Options of all that serves a directory. */
export interface ServeDirectoryOptions extends ServeFileOptions {
  /** A path at the start of the URL that does not belong to the file's: `"static"`. @default "" */
  urlRoot?: string;
  /** Show what a directory holds: HTML, or JSON to who asks for it. @default false */
  showDirListing?: boolean;
  /** Serve names that start with a dot; `.well-known` is served in any case. @default false */
  showDotfiles?: boolean;
  /** Serve a directory's index file for the directory. @default true */
  showIndex?: boolean;
  /** Names of index files, tried in order. @default ["index.html"] */
  index?: readonly string[];
  /** Let scripts of other origins read the responses (CORS). @default false */
  enableCors?: boolean;
  /** Serve `about.html` for `/about`; as `extensions: ["html"]`. @default false */
  cleanUrls?: boolean;
  /** Endings without dot that are tried, in order, where no file has the very name. @default [] */
  extensions?: readonly string[];
  /**
   * Serve this file (`true`: index.html), with status 200, for a page that is not there: a path whose last name has
   * no dot, asked for by who takes HTML. A missing asset stays 404. @default false
   */
  spa?: boolean | string;
}

/** Options as the code uses them. */
export interface Rules {
  readonly cacheControl: string | undefined;
  readonly encodings: readonly Encoding[];
  /** Fields of every response. */
  readonly fields: readonly [string, string][];
  readonly headers: ((path: string, stat: FileInfo) => HeadersInit) | undefined;
  readonly rateLimit: number | undefined;
}

export interface DirectoryRules extends Rules {
  readonly urlRoot: readonly string[];
  readonly listing: boolean;
  readonly dotfiles: boolean;
  readonly index: readonly string[];
  readonly extensions: readonly string[];
  /** The names of the file that stands in for missing pages. */
  readonly spa: readonly string[] | undefined;
}

const fileRules = new WeakMap<ServeFileOptions, Rules>();
const directoryRules = new WeakMap<ServeDirectoryOptions, DirectoryRules>();

/** Checks options and brings them into their form; throws `TypeError` or `RangeError`. Once for each object. */
export function rulesOf(options: ServeFileOptions): Rules {
  let rules = fileRules.get(options);
  if (!rules) fileRules.set(options, rules = readFile(options));
  return rules;
}

/** As {@link rulesOf}, for a directory. */
export function directoryRulesOf(options: ServeDirectoryOptions): DirectoryRules {
  let rules = directoryRules.get(options);
  if (!rules) directoryRules.set(options, rules = readDirectory(options));
  return rules;
}

function readFile(options: ServeFileOptions): Rules {
  const { headers, rateLimit } = options;
  if (rateLimit !== undefined && !(rateLimit > 0 && Number.isFinite(rateLimit))) {
    throw new RangeError(`rateLimit must be a number of bytes per second above 0, not ${rateLimit}`);
  }
  if (headers !== undefined && typeof headers !== "function" && !Array.isArray(headers)) {
    throw new TypeError("headers must be a list of lines or a function");
  }
  return {
    cacheControl: cacheControlOf(options),
    encodings: encodingsOf(options.precompressed),
    fields: typeof headers === "function" ? [] : (headers ?? []).map(parseField),
    headers: typeof headers === "function" ? headers : undefined,
    rateLimit,
  };
}

function readDirectory(options: ServeDirectoryOptions): DirectoryRules {
  const { urlRoot = "", showIndex = true, index = ["index.html"], extensions = [], spa = false } = options;
  const rules = readFile(options);
  return {
    ...rules,
    fields: options.enableCors ? mergeFields(CORS, rules.fields) : rules.fields,
    urlRoot: urlRoot.split("/").filter((name) => name !== ""),
    listing: options.showDirListing ?? false,
    dotfiles: options.showDotfiles ?? false,
    index: showIndex ? strings("index", index) : [],
    extensions: [...strings("extensions", extensions), ...(options.cleanUrls ? ["html"] : [])],
    spa: spa === false
      ? undefined
      : (spa === true ? "index.html" : spa).split("/").filter((name) => name !== ""),
  };
}

/** What @std/http's file server sends, and the fields of a download that a script may want to see. */
const CORS: readonly [string, string][] = [
  ["Access-Control-Allow-Origin", "*"],
  ["Access-Control-Allow-Headers", "Origin, X-Requested-With, Content-Type, Accept, Range"],
  ["Access-Control-Expose-Headers", "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag"],
];

function cacheControlOf({ cacheControl, maxAge, immutable }: ServeFileOptions): string | undefined {
  if (cacheControl !== undefined) {
    if (maxAge !== undefined || immutable) {
      throw new TypeError("cacheControl stands alone, without maxAge and immutable");
    }
    return cacheControl;
  }
  if (maxAge === undefined) {
    if (immutable) throw new TypeError("immutable wants maxAge");
    return undefined;
  }
  if (!Number.isInteger(maxAge) || maxAge < 0) {
    throw new RangeError(`maxAge must be a whole number of seconds, not ${maxAge}`);
  }
  return `public, max-age=${maxAge}${immutable ? ", immutable" : ""}`;
}

function encodingsOf(precompressed: ServeFileOptions["precompressed"] = false): readonly Encoding[] {
  if (precompressed === true) return ENCODINGS;
  if (precompressed === false) return [];
  return strings("precompressed", precompressed).map((name) => {
    const encoding = ENCODINGS.find((encoding) => encoding.name === name);
    if (!encoding) throw new TypeError(`precompressed can be br, zstd and gzip, not ${JSON.stringify(name)}`);
    return encoding;
  });
}

function strings(name: string, list: readonly string[]): readonly string[] {
  if (Array.isArray(list) && list.every((item) => typeof item === "string")) return list;
  throw new TypeError(`${name} must be a list of strings`);
}

function parseField(line: string): [string, string] {
  const colon = line.indexOf(":");
  if (colon < 1) throw new TypeError(`a header must be "Name: value", not ${JSON.stringify(line)}`);
  return checkField(line.slice(0, colon).trim(), line.slice(colon + 1).trim());
}

/** Both lists, without what the second gives anew of the first. */
export function mergeFields(
  first: readonly [string, string][],
  second: readonly [string, string][],
): readonly [string, string][] {
  if (second.length === 0) return first;
  const names = new Set(second.map(([name]) => name.toLowerCase()));
  return [...first.filter(([name]) => !names.has(name.toLowerCase())), ...second];
}

const FRAMING = new Set(["content-length", "content-range", "transfer-encoding"]);

/** Throws `TypeError` for what is no header field, or is not for the caller to set. */
export function checkField(name: string, value: string): [string, string] {
  if (FRAMING.has(name.toLowerCase())) throw new TypeError(`${name} is set by what is sent`);
  new Headers([[name, value]]);
  return [name, value];
}
