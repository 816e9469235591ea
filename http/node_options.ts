import type { IncomingMessage, ServerResponse } from "node:http";
import type { Stats } from "node:fs";
import type { HeaderFields } from "../types.ts";
import {
  BOOLEAN,
  checkOptions,
  either,
  FALSE,
  FUNCTION,
  NUMBER,
  OBJECT,
  oneOf,
  type OptionTypes,
  STRING,
  STRINGS,
} from "./check_options.ts";
import { checkField } from "./headers.ts";
import {
  addDirectory,
  type FileInfo,
  type FileOptions,
  maxAgeField,
  type ResolvedDirectoryOptions,
  type ResolvedOptions,
  resolveFileOptions,
  type ServeDirectoryOptions,
  SHARED_DIRECTORY_TYPES,
  SHARED_TYPES,
} from "./options.ts";
import { LARGEST_KEPT } from "./root/small_file_cache.ts";
import type { Sent } from "./send/socket.ts";

/** The response for names that start with a dot, except `.well-known`: the file, 403, or 404. */
export type Dotfiles = "allow" | "deny" | "ignore";

/** Header fields by name; a list means several fields of one name. */
export type HeaderObject = Readonly<Record<string, string | readonly string[]>>;

/** Options of {@link sendFile}: those of Express's `res.sendFile`, with the same names and units, and more. */
export interface SendFileOptions extends Pick<FileOptions, "immutable" | "precompressed" | "rateLimit"> {
  /**
   * How long caches may keep the file, in MILLISECONDS, or a text with a unit: "1d", "2 hours". `./http` takes
   * seconds. At most a year. @default 0
   */
  maxAge?: number | string;
  /** Send `Cache-Control: public, max-age=…`; a text is sent as it is. @default true */
  cacheControl?: boolean | string;
  /** Send an ETag. @default true */
  etag?: boolean;
  /** Send Last-Modified. @default true */
  lastModified?: boolean;
  /** Send parts of files, and Accept-Ranges. @default true */
  acceptRanges?: boolean;
  /** The response for names below `root` that start with a dot. @default "ignore" */
  dotfiles?: Dotfiles;
  /**
   * The directory that `path` is relative to and must stay in. With it, `path` may come from a client. @default none:
   * `path` is trusted
   */
  root?: string;
  /**
   * More header fields: an object, `"Name: value"` lines for every response, or a function that returns them for a
   * file; as in `./http`. @default none
   */
  headers?:
    | readonly string[]
    | HeaderObject
    | ((path: string, stat: FileInfo) => HeaderFields);
}

/** Options of {@link serveStatic}: those of `serve-static`, with the same names and units, and more. */
export interface ServeStaticOptions
  extends
    Omit<SendFileOptions, "root">,
    Omit<ServeDirectoryOptions, keyof FileOptions | "index" | "extensions"> {
  /**
   * Call `next()` for a path that does not exist or a method that files do not support. If false, `next(error)` is
   * called with `error.status`; without a `next`, the client gets the error. @default true
   */
  fallthrough?: boolean;
  /** Redirect to a directory's path with a final slash, and to single slashes. @default true */
  redirect?: boolean;
  /** Index files, tried in order; false: none. @default "index.html" */
  index?: false | string | readonly string[];
  /** Endings without dot that are tried if no file has the exact name. @default false */
  extensions?: false | string | readonly string[];
  /** Sets header fields of a response with a file, before its head is made. @default none */
  setHeaders?: (response: ServerResponse, path: string, stat: Stats) => void;
  /** Called with the result of each response that this handler sent. @default none */
  onSent?: (sent: Sent, request: IncomingMessage) => void;
}

const FILE_TYPES: OptionTypes = {
  ...SHARED_TYPES,
  maxAge: either(NUMBER, STRING),
  maxage: either(NUMBER, STRING),
  cacheControl: either(BOOLEAN, STRING),
  etag: BOOLEAN,
  lastModified: BOOLEAN,
  acceptRanges: BOOLEAN,
  dotfiles: oneOf("allow", "deny", "ignore"),
  headers: either(STRINGS, OBJECT, FUNCTION),
};

const SEND_TYPES: OptionTypes = { ...FILE_TYPES, root: STRING };

const STATIC_TYPES: OptionTypes = {
  ...FILE_TYPES,
  ...SHARED_DIRECTORY_TYPES,
  fallthrough: BOOLEAN,
  redirect: BOOLEAN,
  index: either(FALSE, STRING, STRINGS),
  extensions: either(FALSE, STRING, STRINGS),
  setHeaders: FUNCTION,
  onSent: FUNCTION,
};

const sendRules = new WeakMap<SendFileOptions, ResolvedDirectoryOptions>();

/** Checks and resolves the options of `sendFile`, once for each object; throws as `resolveOptions`. */
export function resolveSendOptions(options: SendFileOptions): ResolvedDirectoryOptions {
  let resolved = options && sendRules.get(options);
  if (!resolved) {
    checkOptions(options, SEND_TYPES);
    const directory = addDirectory(resolveOptions(options), { showIndex: false });
    sendRules.set(options, resolved = { ...directory, ...dotfilesOf(options), redirect: false });
  }
  return resolved;
}

/** As {@link resolveSendOptions}, for `serveStatic`. */
export function resolveStaticOptions(options: ServeStaticOptions): ResolvedDirectoryOptions {
  checkOptions(options, STATIC_TYPES);
  const { index, extensions = false, redirect = true, showDotfiles } = options;
  const { urlRoot, showDirListing, showIndex, enableCors, cleanUrls, followSymlinks, spa } = options;
  const directory = addDirectory(resolveOptions(options), {
    urlRoot,
    showDirListing,
    showIndex,
    enableCors,
    cleanUrls,
    followSymlinks,
    spa,
    index: index === undefined ? undefined : listOf(index),
    extensions: listOf(extensions),
  });
  // `setHeaders` receives the stat of the open file, and a cached file has no descriptor.
  const largestKept = options.setHeaders === undefined ? directory.largestKept : 0;
  return { ...directory, ...dotfilesOf(options, showDotfiles), redirect, largestKept };
}

function listOf(names: false | string | readonly string[]): readonly string[] {
  if (names === false) return [];
  return typeof names === "string" ? [names] : names;
}

function dotfilesOf(
  { dotfiles }: SendFileOptions,
  shown = false,
): Pick<ResolvedDirectoryOptions, "dotfiles" | "deny"> {
  if (dotfiles !== undefined && shown) throw new TypeError("dotfiles cannot be used with showDotfiles");
  return { dotfiles: shown || dotfiles === "allow", deny: dotfiles === "deny" };
}

function resolveOptions(options: SendFileOptions): ResolvedOptions {
  const { headers, etag = true, lastModified = true, acceptRanges = true } = options;
  const lines = isObject(headers) ? undefined : headers;
  const resolved = resolveFileOptions({ ...options, headers: lines }, cacheControlOf(options), LARGEST_KEPT);
  const fields = isObject(headers)
    ? Object.entries(headers).flatMap(([name, values]) =>
      [values].flat().map((value) => checkField(name, String(value)))
    )
    : resolved.fields;
  return { ...resolved, fields, etag, lastModified, ranges: acceptRanges };
}

function isObject(headers: SendFileOptions["headers"]): headers is HeaderObject {
  return typeof headers === "object" && !Array.isArray(headers);
}

/** `maxage` is the older name, which serve-static still accepts. */
function cacheControlOf(options: SendFileOptions & { maxage?: number | string }): string | undefined {
  const { cacheControl = true, maxage, maxAge = maxage, immutable = false } = options;
  if (cacheControl === false) return undefined;
  if (typeof cacheControl === "string") {
    if (maxAge !== undefined || immutable) {
      throw new TypeError("cacheControl as a text cannot be used with maxAge or immutable");
    }
    return checkField("Cache-Control", cacheControl)[1];
  }
  return maxAgeField(secondsOf(maxAge ?? 0), immutable);
}

/** Seconds in a year, the longest useful lifetime (RFC 2616, 14.21) and the limit of serve-static. */
const YEAR = 365 * 24 * 3600;

function secondsOf(maxAge: number | string): number {
  const ms = typeof maxAge === "number" ? maxAge : milliseconds(maxAge);
  if (Number.isNaN(ms) || ms < 0) {
    throw new RangeError(
      `maxAge must be milliseconds, or a text such as "1d", not ${JSON.stringify(maxAge)}`,
    );
  }
  return Math.min(Math.floor(ms / 1000), YEAR);
}

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 24 * 3_600_000,
  w: 7 * 24 * 3_600_000,
  y: 365.25 * 24 * 3_600_000,
};

/** The longer names of the units, as in the package `ms` that serve-static uses. */
const NAMES: readonly [RegExp, string][] = [
  [/^(|milliseconds?|msecs?|ms)$/, "ms"],
  [/^(seconds?|secs?|s)$/, "s"],
  [/^(minutes?|mins?|m)$/, "m"],
  [/^(hours?|hrs?|h)$/, "h"],
  [/^(days?|d)$/, "d"],
  [/^(weeks?|w)$/, "w"],
  [/^(years?|yrs?|y)$/, "y"],
];

/** `1d`, `2.5 hrs`, `1000`; NaN for anything else. */
function milliseconds(text: string): number {
  const [, digits, name] = /^(\d*\.?\d+) *([a-z]*)$/i.exec(text) ?? [];
  const unit = NAMES.find(([pattern]) => pattern.test(name?.toLowerCase() ?? "?"))?.[1];
  return unit === undefined ? NaN : Number(digits) * UNITS[unit];
}
