import type { HeaderFields } from "../types.ts";
import {
  BOOLEAN,
  checkOptions,
  either,
  FUNCTION,
  NUMBER,
  OBJECT,
  type OptionTypes,
  STRING,
  STRINGS,
} from "./check_options.ts";
import type { RequestHead } from "./file_response.ts";
import { checkField, type FieldList, overlay, parseField } from "./headers.ts";
import { type Encoding, ENCODINGS } from "./rfc9110/content_coding.ts";
import type { OpenFile } from "./root/open_file.ts";

/** What is known of a file when its response's head is made. */
export interface FileInfo {
  /** Bytes. */
  readonly size: number;
  /** The last modification of its content. */
  readonly mtime: Date;
  /** The last change of anything about it, also of its name, owner or permissions. */
  readonly ctime: Date;
}

/** Options of a response with a file: of `serveFile`, `sendFile`, and of all that serves a directory. */
export interface FileOptions {
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
   * the place of the one of its name, in any case, that would be there otherwise; several of one name stay several;
   * `Vary` is merged; an `ETag` or `Last-Modified` is what preconditions are compared with. Lines that describe a
   * file (Content-*, ETag, Last-Modified, Accept-Ranges) are not sent with error texts, redirects and listings. What
   * only the server can know (Content-Length, Content-Range, Transfer-Encoding, Connection, Date …) is refused with
   * `TypeError`.
   *
   * The function gets the path of the file that was asked for, as it was opened: `fsRoot` joined with the names of the
   * URL, an index file's or `extensions`' name included; with `precompressed` the path is that of the file and
   * `stat` that of the sibling that is sent. @default none
   */
  headers?: readonly string[] | ((path: string, stat: FileInfo) => HeaderFields);
  /** Bytes of body per second and response. @default no limit */
  rateLimit?: number;
}

/** Options of all that serves a directory. */
export interface ServeDirectoryOptions extends FileOptions {
  /** A path at the start of the URL that does not belong to the file's: `"static"`. @default "" */
  urlRoot?: string;
  /** Show what a directory holds: HTML, or JSON to who asks for it. @default false */
  showDirListing?: boolean;
  /** Serve names that start with a dot; `.well-known` is served in any case. @default false */
  showDotfiles?: boolean;
  /**
   * Serve files that a symlink inside the root leads to outside of it, for roots that are made of links (Nix, npm
   * workspaces). Whoever can make a link below the root then chooses what is served. @default false
   */
  followSymlinks?: boolean;
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
export interface ResolvedOptions {
  /** The `Cache-Control` field. */
  readonly cacheControl: string | undefined;
  readonly encodings: readonly Encoding[];
  /** Fields of every response. */
  readonly fields: FieldList;
  readonly headers: ((path: string, stat: FileInfo) => HeaderFields) | undefined;
  readonly rateLimit: number | undefined;
  /** Whether files have an ETag. */
  readonly etag: boolean;
  /** Whether files have a Last-Modified. */
  readonly lastModified: boolean;
  /** Whether parts of files are sent. */
  readonly ranges: boolean;
  /** The coding that whoever sends a file of that type makes for it, where there is no sibling in one. */
  readonly codingFor?: (requestHead: RequestHead, type: string, file: OpenFile) => Encoding | undefined;
}

export interface ResolvedDirectoryOptions extends ResolvedOptions {
  readonly urlRoot: readonly string[];
  readonly listing: boolean;
  readonly dotfiles: boolean;
  /** Whether a hidden name is 403 in place of 404. */
  readonly deny: boolean;
  readonly followSymlinks: boolean;
  /** Whether another path than the right one is answered with a redirect to that. */
  readonly redirect: boolean;
  readonly index: readonly string[];
  readonly extensions: readonly string[];
  /** The names of the file that stands in for missing pages. */
  readonly spa: readonly string[] | undefined;
}

/** The options of {@link FileOptions}, but those that ./node has in other units. */
export const SHARED_TYPES: OptionTypes = {
  immutable: BOOLEAN,
  precompressed: either(BOOLEAN, STRINGS),
  rateLimit: NUMBER,
};

const LINES_OR_FUNCTION = {
  is: (value: unknown) => typeof value === "function" || Array.isArray(value),
  words: "a list of lines or a function",
};

const STD_TYPES: OptionTypes = {
  etagAlgorithm: either(STRING, OBJECT),
  etagDefault: either(STRING, OBJECT),
};

const FILE_TYPES: OptionTypes = {
  ...SHARED_TYPES,
  ...STD_TYPES,
  cacheControl: STRING,
  maxAge: NUMBER,
  headers: LINES_OR_FUNCTION,
};

const SERVE_FILE_TYPES: OptionTypes = { ...FILE_TYPES, fileInfo: OBJECT };

/** What {@link ServeDirectoryOptions} add, but those that ./node takes in more forms. */
export const SHARED_DIRECTORY_TYPES: OptionTypes = {
  urlRoot: STRING,
  showDirListing: BOOLEAN,
  showDotfiles: BOOLEAN,
  showIndex: BOOLEAN,
  enableCors: BOOLEAN,
  cleanUrls: BOOLEAN,
  followSymlinks: BOOLEAN,
  spa: either(BOOLEAN, STRING),
};

const DIRECTORY_TYPES: OptionTypes = {
  ...FILE_TYPES,
  ...SHARED_DIRECTORY_TYPES,
  index: STRINGS,
  extensions: STRINGS,
  fsRoot: STRING,
  quiet: BOOLEAN,
  fallthrough: FUNCTION,
};

const fileRules = new WeakMap<FileOptions, ResolvedOptions>();
const directoryRules = new WeakMap<ServeDirectoryOptions, ResolvedDirectoryOptions>();

/** Checks options and brings them into their form; throws `TypeError` or `RangeError`. Once for each object. */
export function resolveOptions(options: FileOptions): ResolvedOptions {
  let resolved = options && fileRules.get(options);
  if (!resolved) {
    checkOptions(options, SERVE_FILE_TYPES);
    fileRules.set(options, resolved = resolveFileOptions(options, cacheControlOf(options)));
  }
  return resolved;
}

/** As {@link resolveOptions}, for a directory. */
export function resolveDirectoryOptions(options: ServeDirectoryOptions): ResolvedDirectoryOptions {
  let resolved = options && directoryRules.get(options);
  if (!resolved) {
    checkOptions(options, DIRECTORY_TYPES);
    directoryRules.set(
      options,
      resolved = addDirectory(resolveFileOptions(options, cacheControlOf(options)), options),
    );
  }
  return resolved;
}

/** The rules for a file of options that have been checked, but for `Cache-Control`. */
export function resolveFileOptions(
  { headers, rateLimit, precompressed }: Pick<FileOptions, "headers" | "rateLimit" | "precompressed">,
  cacheControl: string | undefined,
): ResolvedOptions {
  if (rateLimit !== undefined && !(rateLimit > 0 && Number.isFinite(rateLimit))) {
    throw new RangeError(`rateLimit must be a number of bytes per second above 0, not ${rateLimit}`);
  }
  return {
    cacheControl,
    encodings: encodingsOf(precompressed),
    fields: typeof headers === "function" ? [] : (headers ?? []).map(parseField),
    headers: typeof headers === "function" ? headers : undefined,
    rateLimit,
    etag: true,
    lastModified: true,
    ranges: true,
  };
}

/** `resolved` with those for a directory. */
export function addDirectory(
  resolved: ResolvedOptions,
  options: ServeDirectoryOptions,
): ResolvedDirectoryOptions {
  const { urlRoot = "", showIndex = true, index = ["index.html"], extensions = [], spa = false } = options;
  return {
    ...resolved,
    fields: options.enableCors ? overlay(CORS, resolved.fields) : resolved.fields,
    urlRoot: namesOf(urlRoot),
    listing: options.showDirListing ?? false,
    dotfiles: options.showDotfiles ?? false,
    deny: false,
    followSymlinks: options.followSymlinks ?? false,
    redirect: true,
    index: showIndex ? index : [],
    extensions: [...extensions, ...(options.cleanUrls ? ["html"] : [])],
    spa: spa === false ? undefined : namesOf(spa === true ? "index.html" : spa),
  };
}

function namesOf(path: string): string[] {
  return path.split("/").filter((name) => name !== "");
}

/** What @std/http's file server sends, and the fields of a download that a script may want to see. */
const CORS: FieldList = [
  ["Access-Control-Allow-Origin", "*"],
  ["Access-Control-Allow-Headers", "Origin, X-Requested-With, Content-Type, Accept, Range"],
  ["Access-Control-Expose-Headers", "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag"],
];

function cacheControlOf({ cacheControl, maxAge, immutable }: FileOptions): string | undefined {
  if (cacheControl !== undefined) {
    if (maxAge !== undefined || immutable) {
      throw new TypeError("cacheControl stands alone, without maxAge and immutable");
    }
    return checkField("Cache-Control", cacheControl)[1];
  }
  if (maxAge === undefined) {
    if (immutable) throw new TypeError("immutable wants maxAge");
    return undefined;
  }
  if (!Number.isInteger(maxAge) || maxAge < 0) {
    throw new RangeError(`maxAge must be a whole number of seconds, not ${maxAge}`);
  }
  return maxAgeField(maxAge, immutable ?? false);
}

/** The `Cache-Control` field for so many seconds. */
export function maxAgeField(seconds: number, immutable: boolean): string {
  return `public, max-age=${seconds}${immutable ? ", immutable" : ""}`;
}

function encodingsOf(precompressed: FileOptions["precompressed"] = false): readonly Encoding[] {
  if (precompressed === true) return ENCODINGS;
  if (precompressed === false) return [];
  return precompressed.map((name) => {
    const encoding = ENCODINGS.find((encoding) => encoding.name === name);
    if (!encoding) throw new TypeError(`precompressed can be br, zstd and gzip, not ${JSON.stringify(name)}`);
    return encoding;
  });
}
