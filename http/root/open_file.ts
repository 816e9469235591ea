import * as fs from "node:fs";
import { libc } from "../../ffi/load.ts";
import type { Parts } from "../rfc9110/multipart.ts";

/** A regular file, open for reading. Who gets it closes it. */
export interface OpenFile {
  readonly kind: "file";
  /** A descriptor of node:fs. */
  readonly fd: number;
  /** The path it was opened by. */
  readonly path: string;
  /** A path to open it by once more: without symlinks, where the file was checked to be inside a root. */
  readonly real: string;
  readonly size: number;
  readonly dev: bigint;
  readonly ino: bigint;
  /** The last modification: seconds since 1970, and nanoseconds from there. */
  readonly seconds: number;
  readonly nanoseconds: number;
  /** The last change of anything about it, also of its name: seconds since 1970. */
  readonly changed: number;
}

/** A body that comes from a file. Who gets it closes `file`. */
export interface FileBody extends Parts {
  readonly file: OpenFile;
}

export function isFileBody(body: unknown): body is FileBody {
  return typeof body === "object" && body !== null && "file" in body;
}

/** What cannot be sent, by the status that says so. `problem`: what only a log is to say. */
export interface HttpFailure {
  readonly kind: "failure";
  readonly status: 400 | 403 | 404 | 500 | 503;
  /** What the system said. */
  readonly code?: string;
  readonly problem?: string;
}

export const NOT_FOUND: HttpFailure = { kind: "failure", status: 404 };
export const FORBIDDEN: HttpFailure = { kind: "failure", status: 403 };
export const BAD_REQUEST: HttpFailure = { kind: "failure", status: 400 };

/**
 * The open of a FIFO must not wait for a writer, nor that of a terminal make it ours; a regular file knows neither
 * flag. A device is opened before it is seen to be one, as in nginx.
 */
const FLAGS = fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0) | (fs.constants.O_NOCTTY ?? 0);

/** Opens `path`, symlinks followed, and looks at what was opened. */
export function openFile(
  path: string,
): OpenFile | { readonly kind: "directory"; readonly fd: number } | HttpFailure {
  let fd: number;
  try {
    fd = fs.openSync(path, FLAGS);
  } catch (error) {
    return failure(error);
  }
  try {
    const seen = statDescriptor(fd);
    if (seen.regular) return { kind: "file", fd, path, real: path, ...seen };
    if (seen.directory) return { kind: "directory", fd };
  } catch (error) {
    fs.closeSync(fd);
    return failure(error);
  }
  fs.closeSync(fd);
  return NOT_FOUND;
}

/** As {@link openFile}, and a directory is not found. */
export function openRegular(path: string): OpenFile | HttpFailure {
  const found = openFile(path);
  if (found.kind !== "directory") return found;
  fs.closeSync(found.fd);
  return NOT_FOUND;
}

type Seen = Omit<OpenFile, "kind" | "fd" | "path" | "real"> & {
  readonly regular: boolean;
  readonly directory: boolean;
};

/** What an open descriptor is. Through libc it is 0.5 µs, where Deno's fstatSync is 12 (measured). */
export function statDescriptor(fd: number): Seen {
  const c = libc();
  if (typeof c !== "string") {
    const stat = c.stat(fd);
    if (typeof stat === "number") throw c.error(stat, "fstat");
    const { regular, directory, size, dev, ino, seconds, nanoseconds, changed } = stat;
    return { regular, directory, size, dev, ino, seconds, nanoseconds, changed };
  }
  const stat = fs.fstatSync(fd, { bigint: true });
  const seconds = Math.floor(Number(stat.mtimeNs / 1_000_000n) / 1000);
  return {
    regular: stat.isFile(),
    directory: stat.isDirectory(),
    size: Number(stat.size),
    dev: BigInt.asUintN(64, stat.dev),
    ino: BigInt.asUintN(64, stat.ino),
    seconds,
    nanoseconds: Number(stat.mtimeNs - BigInt(seconds) * 1_000_000_000n),
    changed: Number(stat.ctimeNs) / 1e9,
  };
}

/** What the system's error means to a client. Its text names paths and is not for it. */
export function failure(error: unknown): HttpFailure {
  const { code, name } = error as { code?: string; name?: string };
  const known = code ?? name ?? "unknown";
  switch (known) {
    case "ENOENT":
    case "ENOTDIR":
    case "ELOOP":
    case "EACCES":
    case "EPERM":
    case "ENXIO": // a socket
    case "ENAMETOOLONG": // the system can have no file of that name
    case "NotCapable": // outside of what Deno's --allow-read names
      return { ...NOT_FOUND, code: known };
    case "EMFILE":
    case "ENFILE":
      return { kind: "failure", status: 503, code: known, problem: known };
    default:
      return { kind: "failure", status: 500, code: known, problem: known };
  }
}
