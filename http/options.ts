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
import { LARGEST_KEPT } from "./root/small_file_cache.ts";
import { isDeno } from "../runtime.ts";

/** The stat of a file at the time when its response's head is made. */
export interface FileInfo {
  /** Bytes. */
  readonly size: number;
  /** The last modification of its content. */
  readonly mtime: Date;
  /** The last change of the inode, also of its name, owner or permissions. */
  readonly ctime: Date;
}

/** Options of a response with a file: for `serveFile`, `sendFile` and everything that serves a directory. */
export interface FileOptions {
  /** The `Cache-Control` field, as it is; instead of `maxAge` and `immutable`. @default none */
  cacheControl?: string;
  /** Seconds for which caches may store the file: `Cache-Control: public, max-age=N`. @default none */
  maxAge?: number;
  /** The file never changes under its name: `immutable` in `Cache-Control`. Requires `maxAge`. @default false */
  immutable?: boolean;
  /**
   * Send `FILE.br`, `FILE.zst` or `FILE.gz` in place of `FILE` if it exists and the client accepts it. `true`, or the
   * codings (`br`, `zstd`, `gzip`) in order of preference. We do not check that a sibling has the same content.
   * @default false
   */
  precompressed?: boolean | readonly string[];
  /**
   * More header fields: `"Name: value"` lines for every response, or a function that returns fields for a file. A
   * field replaces ours of the same name, in any case; several of one name stay several; `Vary` is merged;
   * preconditions are compared with the given `ETag` or `Last-Modified`. Lines that describe a file (Content-*, ETag,
   * Last-Modified, Accept-Ranges) are not sent with error texts, redirects and listings. Fields that only the server
   * can know (Content-Length, Content-Range, Transfer-Encoding, Connection, Date …) are refused with `TypeError`.
   *
   * The function receives the path by which the requested file was opened: `fsRoot` joined with the names of the URL,
   * including the name of an index file or an ending of `extensions`. With `precompressed` the path is the requested
   * file's and `stat` is that of the sibling that is sent. @default none
   */
  headers?: readonly string[] | ((path: string, stat: FileInfo) => HeaderFields);
  /** Bytes of the body per second, for each response. @default no limit */
  rateLimit?: number;
  /**
   * Keep the bytes of files up to 64 KiB that are requested often in memory, 16 MiB in all. Before each response
   * stat(2) must show that the file is unchanged, and after a second the file is read again. Only on Linux with FFI.
   * @default true
   */
  cache?: boolean;
}

/** Options of everything that serves a directory. */
export interface ServeDirectoryOptions extends FileOptions {
  /** A prefix of the URL's path that is not part of the file's path: `"static"`. @default "" */
  urlRoot?: string;
  /** List directories: as HTML, or as JSON for clients that prefer it. @default false */
  showDirListing?: boolean;
  /** Serve names that start with a dot; `.well-known` is served in any case. @default false */
  showDotfiles?: boolean;
  /**
   * Follow symlinks that lead out of the root, for roots that consist of symlinks (Nix, npm workspaces). Anyone who
   * can create a symlink below the root can then choose what is served. @default false
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
  /** Endings without dot that are tried, in order, if no file has the exact name. @default [] */
  extensions?: readonly string[];
  /**
   * Serve this file (`true`: index.html) with status 200 for a missing page: a path whose last name has no dot,
   * requested by a client that accepts HTML. A missing asset still gets 404. @default false
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
  /** Bytes of the largest file whose bytes are kept; 0: none are. */
  readonly largestKept: number;
  /** The coding that the sender applies to a file of this type, if no precompressed sibling exists. */
  readonly codingFor?: (requestHead: RequestHead, type: string, file: OpenFile) => Encoding | undefined;
}

/**
 * Bytes of the largest file whose bytes are kept for a fetch handler. Deno.serve sends 16 KiB from memory with a third
 * less CPU time than as a file, 32 KiB with a sixth less, 64 KiB with a third more (measured).
 */
const LARGEST_FOR_FETCH = isDeno ? 32 * 1024 : LARGEST_KEPT;

/**
 * Bytes of the largest file that may come from the cache of small files; 0: none. A cached file has no descriptor, so
 * the sender must not need one.
 */
export function largestCached({ largestKept, rateLimit, codingFor }: ResolvedOptions): number {
  return rateLimit === undefined && codingFor === undefined ? largestKept : 0;
}

export interface ResolvedDirectoryOptions extends ResolvedOptions {
  readonly urlRoot: readonly string[];
  readonly listing: boolean;
  readonly dotfiles: boolean;
  /** Whether a hidden name gets 403 instead of 404. */
  readonly deny: boolean;
  readonly followSymlinks: boolean;
  /** Whether a path that is not canonical is redirected. */
  readonly redirect: boolean;
  readonly index: readonly string[];
  readonly extensions: readonly string[];
  /** The names of the file that is sent for missing pages. */
  readonly spa: readonly string[] | undefined;
}

/** The options of {@link FileOptions}, except those that have other units in ./node. */
export const SHARED_TYPES: OptionTypes = {
  immutable: BOOLEAN,
  precompressed: either(BOOLEAN, STRINGS),
  rateLimit: NUMBER,
  cache: BOOLEAN,
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

/** The options that {@link ServeDirectoryOptions} adds, except those that have more forms in ./node. */
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

/** Checks and resolves options, once for each object. Throws `TypeError` or `RangeError`. */
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

/** Resolves checked options for a file, except `Cache-Control`. */
export function resolveFileOptions(
  { headers, rateLimit, precompressed, cache = true }: Pick<
    FileOptions,
    "headers" | "rateLimit" | "precompressed" | "cache"
  >,
  cacheControl: string | undefined,
  largestKept = LARGEST_FOR_FETCH,
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
    largestKept: cache ? largestKept : 0,
  };
}

/** Adds the resolved options for a directory to `resolved`. */
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

/** The fields that @std/http's file server sends, and the fields of a download that a script may want to read. */
const CORS: FieldList = [
  ["Access-Control-Allow-Origin", "*"],
  ["Access-Control-Allow-Headers", "Origin, X-Requested-With, Content-Type, Accept, Range"],
  ["Access-Control-Expose-Headers", "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag"],
];

function cacheControlOf({ cacheControl, maxAge, immutable }: FileOptions): string | undefined {
  if (cacheControl !== undefined) {
    if (maxAge !== undefined || immutable) {
      throw new TypeError("cacheControl cannot be used with maxAge or immutable");
    }
    return checkField("Cache-Control", cacheControl)[1];
  }
  if (maxAge === undefined) {
    if (immutable) throw new TypeError("immutable requires maxAge");
    return undefined;
  }
  if (!Number.isInteger(maxAge) || maxAge < 0) {
    throw new RangeError(`maxAge must be a whole number of seconds, not ${maxAge}`);
  }
  return maxAgeField(maxAge, immutable ?? false);
}

/** The `Cache-Control` field for `seconds`. */
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
