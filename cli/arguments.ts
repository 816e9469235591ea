import { parseArgs } from "node:util";
import type { LogFormat } from "./access_log.ts";
import type { TlsFiles } from "./tls.ts";

export const HELP = `Serves the files of a directory over HTTP, by sendfile(2) where it can be used.

Usage: deno run -A jsr:@zerocopy/sendfile/cli [options] [DIR]
       deno task serve [options] [DIR]
       bun cli.ts [options] [DIR]
       … doctor [--json]    tests where sendfile(2) is used on this machine; exit code 0 or 1

DIR is the current directory by default. Its 404.html, if it has one, is the page for missing files.

  -p, --port <port>        TCP port; 0 for any that is free (default: 8000, or
                           the next one that is free)
      --host <host>        address to listen on (default: 0.0.0.0, all of IPv4)
      --unix <path>        listen on a unix socket instead of a port
      --tls-cert <file>    serve https with this certificate (PEM), and with
      --tls-key <file>     its private key (PEM)
      --workers <n>        processes that share the port (default: 1)
      --cors               let scripts of other origins read the files
  -H, --header <K: V>      one more header field; may be given several times
      --no-dir-listing     404 for a directory without index.html
      --dotfiles           serve names that start with a dot
      --no-dotfiles        do not, except .well-known (default)
      --follow-symlinks    serve what symlinks lead to outside of DIR
      --clean-urls         about.html for /about
      --spa                index.html for missing pages
      --auth <user:password>
                           require name and password (HTTP Basic)
      --precompressed      FILE.br, FILE.zst or FILE.gz to clients that accept it
      --compress           compress text for clients that accept it
                           (br, zstd, gzip)
      --max-age <seconds>  how long caches may keep a file
      --rate-limit <n>     bytes per second and response; 500k, 2m
      --open               open the address in a browser
      --watch              reload pages when a file changes; no caching
      --max-connections <n>
                           most connections of each process at once
                           (default: as many as descriptors allow)
      --max-connections-per-address <n>
                           most of these from one address (default: no limit)
      --trust-proxy        log the client's address that a proxy sends in
                           X-Forwarded-For or Forwarded
      --log <format>       text, json or none (default: text)
  -v, --verbose            duration, range and user agent in the text log
  -V, --version            version
  -h, --help               this text

Each flag has an environment variable; a flag on the command line overrides
it: SENDFILE_MAX_AGE=60 is --max-age 60, SENDFILE_CORS=1 is --cors, and
SENDFILE_HEADER has one field per line.`;

/** The parsed command line. */
export interface Command {
  readonly directory: string;
  readonly host: string;
  /** Undefined: the first free port from 8000 on. */
  readonly port: number | undefined;
  /** The path of a unix socket to listen on instead of host and port. */
  readonly unix: string | undefined;
  readonly tls: TlsFiles | undefined;
  readonly workers: number;
  readonly cors: boolean;
  readonly headers: readonly string[];
  readonly listing: boolean;
  readonly dotfiles: boolean;
  readonly followSymlinks: boolean;
  readonly cleanUrls: boolean;
  readonly spa: boolean;
  /** `user:password` */
  readonly auth: string | undefined;
  readonly precompressed: boolean;
  readonly compress: boolean;
  readonly open: boolean;
  readonly watch: boolean;
  readonly maxAge: number | undefined;
  readonly rateLimit: number | undefined;
  readonly maxConnections: number | undefined;
  readonly maxConnectionsPerAddress: number | undefined;
  readonly trustProxy: boolean;
  readonly log: LogFormat;
  readonly help: boolean;
  readonly version: boolean;
}

/**
 * An error that is printed in one line, and the exit code: 2 for errors in the command line, 1 for errors of the
 * system.
 */
export class Failure extends Error {
  constructor(message: string, readonly code: 1 | 2) {
    super(message);
  }
}

/** Throws {@link Failure}. */
export function parseCommand(args: string[]): Command {
  const { values, positionals } = read(args);
  if (positionals.length > 1) throw new Failure(`one directory at most, not ${positionals.length}`, 2);
  return {
    directory: positionals[0] ?? ".",
    host: values.host ?? "0.0.0.0",
    port: whole("port", values.port, 0, 65535),
    unix: unixPath(values),
    tls: tlsFiles(values["tls-cert"], values["tls-key"]),
    workers: whole("workers", values.workers, 1, 256) ?? 1,
    cors: values.cors ?? false,
    headers: values.header ?? [],
    listing: !values["no-dir-listing"],
    dotfiles: (values.dotfiles ?? false) && !values["no-dotfiles"],
    followSymlinks: values["follow-symlinks"] ?? false,
    cleanUrls: values["clean-urls"] ?? false,
    spa: values.spa ?? false,
    auth: credentials(values.auth),
    precompressed: values.precompressed ?? false,
    compress: compresses(values),
    open: values.open ?? false,
    watch: watches(values),
    maxAge: whole("max-age", values["max-age"], 0, 2 ** 31),
    rateLimit: rate(values["rate-limit"]),
    maxConnections: whole("max-connections", values["max-connections"], 1, 2 ** 31),
    maxConnectionsPerAddress: whole(
      "max-connections-per-address",
      values["max-connections-per-address"],
      1,
      2 ** 31,
    ),
    trustProxy: values["trust-proxy"] ?? false,
    log: logFormat(values.log ?? "text", values.verbose ?? false),
    help: values.help ?? false,
    version: values.version ?? false,
  };
}

/** The flags, as `parseArgs` takes them. */
export const FLAGS = {
  port: { type: "string", short: "p" },
  host: { type: "string" },
  unix: { type: "string" },
  "tls-cert": { type: "string" },
  "tls-key": { type: "string" },
  workers: { type: "string" },
  cors: { type: "boolean" },
  header: { type: "string", short: "H", multiple: true },
  "no-dir-listing": { type: "boolean" },
  dotfiles: { type: "boolean" },
  "no-dotfiles": { type: "boolean" },
  "follow-symlinks": { type: "boolean" },
  "clean-urls": { type: "boolean" },
  spa: { type: "boolean" },
  auth: { type: "string" },
  precompressed: { type: "boolean" },
  compress: { type: "boolean" },
  open: { type: "boolean" },
  watch: { type: "boolean" },
  "max-age": { type: "string" },
  "rate-limit": { type: "string" },
  "max-connections": { type: "string" },
  "max-connections-per-address": { type: "string" },
  "trust-proxy": { type: "boolean" },
  log: { type: "string" },
  verbose: { type: "boolean", short: "v" },
  version: { type: "boolean", short: "V" },
  help: { type: "boolean", short: "h" },
} as const;

function read(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: FLAGS,
    });
  } catch (error) {
    const [first] = (error as Error).message.split(/\.?\n|\. /);
    throw new Failure(`${first} (see --help)`, 2);
  }
}

function whole(name: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d{1,10}$/.test(text) && value >= min && value <= max) return value;
  throw new Failure(`--${name} must be a number from ${min} to ${max}, not ${JSON.stringify(text)}`, 2);
}

/** Flags that apply only to listening on a port. */
const OF_PORTS = ["port", "host", "tls-cert", "tls-key", "workers", "open"] as const;

function unixPath(values: ReturnType<typeof read>["values"]): string | undefined {
  const other = OF_PORTS.find((name) => values[name] !== undefined);
  if (values.unix !== undefined && other) throw new Failure(`--unix cannot be used with --${other}`, 2);
  if (values.unix === "") throw new Failure("--unix requires a path", 2);
  return values.unix;
}

function compresses(values: ReturnType<typeof read>["values"]): boolean {
  if (values.compress && values["rate-limit"] !== undefined) {
    throw new Failure("--compress cannot be used with --rate-limit, which sends files as they are", 2);
  }
  return values.compress ?? false;
}

function watches(values: ReturnType<typeof read>["values"]): boolean {
  if (values.watch && values["max-age"] !== undefined) {
    throw new Failure("--watch cannot be used with --max-age: it turns caching off", 2);
  }
  return values.watch ?? false;
}

function credentials(text: string | undefined): string | undefined {
  if (text === undefined || text.includes(":")) return text;
  throw new Failure("--auth must be user:password", 2); // does not print the text, which may be a password
}

function tlsFiles(cert: string | undefined, key: string | undefined): TlsFiles | undefined {
  if (cert !== undefined && key !== undefined) return { cert, key };
  if (cert === undefined && key === undefined) return undefined;
  throw new Failure("--tls-cert and --tls-key must be given together", 2);
}

const UNITS: Record<string, number> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/** Parses a rate with nginx's units. */
function rate(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, digits, unit] = /^(\d{1,9})([kmg]?)$/i.exec(text) ?? [];
  const value = Number(digits) * UNITS[unit?.toLowerCase()];
  if (value > 0) return value;
  throw new Failure(`--rate-limit must be bytes per second such as 500k, not ${JSON.stringify(text)}`, 2);
}

function logFormat(format: string, verbose: boolean): LogFormat {
  if (format === "text") return verbose ? "verbose" : "text";
  if (format === "json" || format === "none") return format;
  throw new Failure(`--log must be text, json or none, not ${JSON.stringify(format)}`, 2);
}
