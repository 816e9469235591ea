import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import { notRegular, SendfileError } from "../errors.ts";
import { checkDescriptor } from "../ffi/descriptor.ts";
import { exactFileId, type FileId, isSameFile } from "../ffi/file_id.ts";
import { findFile, readsFile } from "../ffi/find.ts";
import type { Libc } from "../ffi/libc.ts";
import { isInMemory } from "./in_memory.ts";
import { readAt, readAway } from "./read_file.ts";
import { SendfileRegion } from "./region.ts";
import type { DenoFsFileLike, WebBlob, WebURL } from "../types.ts";
import { BUN_FILE_UNKNOWN, FS_FILE_NOT_FOUND, NOT_REGULAR } from "../reasons.ts";

/** The members of node:fs/promises' FileHandle that we use. */
export interface FileHandleLike {
  /** Its descriptor. */
  readonly fd: number;
  /** Reads at `position`. */
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
}

/**
 * A file that {@link sendfile} sends: a path, a `file:` URL, a descriptor number of node:fs, a FileHandle, a
 * `Deno.FsFile`, a `Bun.file` (or any other Blob, which is copied), a {@link SendfileRegion}.
 */
export type SendfileFile =
  | string
  | WebURL
  | number
  | FileHandleLike
  | DenoFsFileLike
  | WebBlob
  | SendfileRegion;

/** A file argument, opened. */
export interface Source {
  /** The descriptor that sendfile(2) reads from, or why there is none. */
  readonly descriptor: number | string;
  /** The inode number, if known. */
  readonly inode: bigint | undefined;
  /** Where the argument's own range starts in the file (a region, a slice). */
  readonly start: number;
  /** Bytes in that range; undefined: to the end of the file. */
  readonly limit: number | undefined;
  /** Size of the whole file in bytes now, read from the descriptor that is sent. */
  size(): number;
  /** Whether the file has been truncated below `position`. */
  isShorterThan(position: number): boolean;
  /** Reads at an absolute position; 0 at the end. */
  read(into: Uint8Array, position: number): number | Promise<number>;
  /** Duplicates a borrowed descriptor, so that its owner may close the original. Call it before the first await. */
  dupDescriptor(): void;
  /** Moves the file position, if the source has one. */
  seek(position: number): void;
  /** Closes the descriptors that we own. */
  close(): void;
}

/**
 * A regular file that this package has opened and checked. Its creator keeps the descriptor open until the transfer
 * has ended, so that no duplicate is needed. A second fstat would cost 3 to 5 % of a small response (measured).
 */
export class SeenFile {
  readonly fd: number;
  readonly id: FileId;

  constructor(fd: number, id: FileId) {
    this.fd = fd;
    this.id = id;
  }
}

/** Throws `TypeError` or `RangeError` for an argument that is not a file; makes no system call. */
export function checkFile(file: SendfileFile | SeenFile): void {
  if (file instanceof SeenFile) return;
  if (typeof file === "number") {
    checkDescriptor(file);
    return;
  }
  if (typeof file === "string" || file instanceof SendfileRegion || file instanceof Blob) return;
  if (file instanceof URL) {
    if (file.protocol !== "file:") {
      throw new TypeError(`the URL of a file starts with file:, not ${file.protocol}`);
    }
    return;
  }
  if (typeof file === "object" && file !== null && (isFsFile(file) || isFileHandle(file))) return;
  throw new TypeError(
    "file must be a path, a file: URL, a descriptor, an open file, a Blob or a SendfileRegion",
  );
}

/**
 * Opens a file argument that {@link checkFile} has accepted. Throws the error of node:fs if it cannot be opened, and
 * `SendfileNotAvailableError` if it is not a regular file; the message says so if it is a directory.
 */
export function openSource(file: SendfileFile | SeenFile, libc: Libc | undefined): Source {
  if (file instanceof SeenFile) return new DescriptorSource(file.fd, "holder", libc, { seen: file.id });
  if (typeof file === "number") return new DescriptorSource(file, "caller", libc);
  if (typeof file === "string" || file instanceof URL) return openPath(file, libc);
  if (file instanceof SendfileRegion) return openPath(file.path, libc, file.offset, file.count);
  if (file instanceof Blob) return openBlob(file, libc);
  if (isFileHandle(file)) return new DescriptorSource(file.fd, "caller", libc);
  return new FsFileSource(file, libc);
}

function isFsFile(file: object): file is DenoFsFileLike {
  return "seekSync" in file && "readSync" in file && "statSync" in file;
}

function isFileHandle(file: object): file is FileHandleLike {
  return "fd" in file && typeof file.fd === "number" && "read" in file;
}

function openPath(path: string | URL, libc: Libc | undefined, start = 0, limit?: number): Source {
  const name = typeof path === "string" ? path : fileURLToPath(path);
  // O_NONBLOCK: open() on a FIFO would block until a writer arrives. It has no effect on a regular file.
  const fd = fs.openSync(name, fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0));
  try {
    return new DescriptorSource(fd, "fs", libc, { start, limit, name });
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** What we know about an open file before its fstat. */
interface KnownFile {
  readonly start?: number;
  readonly limit?: number;
  /** The file id, if the descriptor has been checked: then it is not checked again. */
  readonly seen?: FileId;
  /** The name used in error messages. */
  readonly name?: string;
  /** Only with `seen`: its size. */
  readonly size?: number;
}

class DescriptorSource implements Source {
  descriptor: number;
  readonly start: number;
  readonly limit: number | undefined;
  readonly #libc: Libc | undefined;
  /**
   * Who closes the descriptor. "caller": may close it at any moment. "holder": keeps it open until the transfer has
   * ended. "fs" and "libc": we do.
   */
  #owner: "caller" | "holder" | "fs" | "libc";
  /** Its size when it was opened. Infinity: the opener guarantees that the transfer does not go past the end. */
  readonly #size: number;
  /** The file id of the descriptor; undefined if libc was not asked. */
  #id: FileId | undefined;
  /** The name used in error messages. */
  readonly #name: string;

  constructor(
    fd: number,
    owner: "caller" | "holder" | "fs" | "libc",
    libc: Libc | undefined,
    { start = 0, limit, seen, name = `the descriptor ${fd}`, size = Infinity }: KnownFile = {},
  ) {
    this.descriptor = fd;
    this.#name = name;
    this.start = start;
    this.limit = limit;
    this.#libc = libc;
    this.#owner = owner;
    this.#id = seen;
    this.#size = seen ? size : this.size(); // throws if it is not a regular file
  }

  get inode(): bigint | undefined {
    return this.#id?.ino;
  }

  size(): number {
    if (!this.#libc) {
      const stat = fs.fstatSync(this.descriptor);
      if (!stat.isFile()) throw notRegular(stat.isDirectory() ? this.#name : undefined);
      return stat.size;
    }
    // Takes 0.3 µs; Deno's fstatSync takes 9 µs (measured).
    const stat = this.#libc.stat(this.descriptor);
    if (typeof stat === "number") throw this.#libc.error(stat, "fstat");
    if (!stat.regular) throw notRegular(stat.directory ? this.#name : undefined);
    this.#id ??= { dev: stat.dev, ino: stat.ino };
    return stat.size;
  }

  isShorterThan(position: number): boolean {
    return position <= this.#size && this.size() < position;
  }

  read(into: Uint8Array, position: number): number | Promise<number> {
    const libc = this.#libc;
    const file = { fd: this.descriptor, ino: this.inode };
    if (this.#owner !== "libc") return readAt(file, into, position);
    const check = (bytes: number) => {
      if (bytes < 0) throw libc!.error(bytes, "pread");
      return bytes;
    };
    if (isInMemory(libc, file, position, position + into.length)) {
      return check(libc!.pread(file.fd, into, position));
    }
    // Deno's node:fs reads only from descriptors that it opened itself: it fails with EBADF for a duplicate
    // (measured).
    return libc!.library.callsAway
      ? libc!.preadAway(file.fd, into, position).then(check)
      : readAway(file.fd, into, position);
  }

  dupDescriptor(): void {
    if (this.#owner !== "caller" || !this.#libc) return;
    const dup = this.#libc.dup(this.descriptor);
    if (dup < 0) throw this.#libc.error(dup, "dup");
    this.descriptor = dup;
    this.#owner = "libc";
    const stat = this.#libc.stat(dup);
    if (typeof stat === "number" || !isSameFile(stat, this.#id!)) {
      throw new SendfileError("the descriptor was closed by another thread", {
        code: "EBADF",
        syscall: "dup",
      });
    }
  }

  seek(): void {}

  close(): void {
    if (this.#owner === "fs") fs.closeSync(this.descriptor);
    else if (this.#owner === "libc") this.#libc!.close(this.descriptor);
    this.#owner = "caller";
  }
}

/** `Deno.FsFile` does not expose its descriptor; we find one of the same file among the descriptors of the process. */
class FsFileSource implements Source {
  readonly start = 0;
  readonly limit = undefined;
  readonly #file: DenoFsFileLike;
  readonly #found: DescriptorSource | undefined;

  constructor(file: DenoFsFileLike, libc: Libc | undefined) {
    this.#file = file;
    const stat = file.statSync(); // throws if it was closed
    if (!stat.isFile) throw notRegular(stat.isDirectory ? "the Deno.FsFile" : undefined);
    const id = exactFileId(stat.dev, stat.ino);
    if (!libc || !id) return;
    const known = descriptors.get(file);
    const fd = known !== undefined && readsFile(libc, known, id) ? known : findFile(libc, id);
    if (fd === undefined) return;
    // The number may belong to another Worker, which may close it at any moment: only the duplicate is checked and
    // used.
    const dup = libc.dup(fd);
    if (dup < 0) return;
    if (!readsFile(libc, dup, id)) {
      libc.close(dup);
      return;
    }
    descriptors.set(file, fd);
    this.#found = new DescriptorSource(dup, "libc", libc, { seen: id, size: stat.size });
  }

  get descriptor(): number | string {
    return this.#found?.descriptor ?? FS_FILE_NOT_FOUND;
  }

  get inode(): bigint | undefined {
    return this.#found?.inode;
  }

  size(): number {
    return this.#found?.size() ?? this.#file.statSync().size;
  }

  isShorterThan(position: number): boolean {
    return this.#found?.isShorterThan(position) ?? false; // without a descriptor the file is copied
  }

  read(into: Uint8Array, position: number): number | Promise<number> {
    return this.#found ? this.#found.read(into, position) : this.#readFrom(into, position);
  }

  /**
   * Another transfer of the same file, or its owner, may move the position between seek and read. We detect that,
   * because afterwards the position is not where these bytes end.
   */
  async #readFrom(into: Uint8Array, position: number): Promise<number> {
    const file = this.#file;
    for (;;) {
      const [, bytes] = await Promise.all([file.seek(position, SEEK_SET), file.read(into)]);
      if (file.seekSync(0, SEEK_CUR) === position + (bytes ?? 0)) return bytes ?? 0;
    }
  }

  dupDescriptor(): void {
    this.#found?.dupDescriptor();
  }

  seek(position: number): void {
    try {
      this.#file.seekSync(position, SEEK_SET);
    } catch {
      // The file was closed during the transfer, so it has no position to move.
    }
  }

  close(): void {
    this.#found?.close();
  }
}

/** Deno.SeekMode */
const SEEK_SET = 0;
const SEEK_CUR = 1;

/** Descriptors found earlier, tried first. */
const descriptors = new WeakMap<DenoFsFileLike, number>();

/** A Blob in memory, or a Bun.file whose range is not known. */
class BlobSource implements Source {
  readonly start = 0;
  readonly limit = undefined;
  readonly inode = undefined;
  readonly #blob: Blob;
  readonly descriptor: string;

  constructor(blob: Blob, reason: string) {
    this.#blob = blob;
    this.descriptor = reason;
  }

  size(): number {
    return this.#blob.size;
  }

  isShorterThan(): boolean {
    return false;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    const bytes = await this.#blob.slice(position, position + into.length).arrayBuffer();
    into.set(new Uint8Array(bytes));
    return bytes.byteLength;
  }

  dupDescriptor(): void {}
  seek(): void {}
  close(): void {}
}

/** The members of Bun that we use. */
interface BunGlobal {
  file(path: string): Blob;
  inspect(value: unknown): string;
}

function openBlob(blob: Blob, libc: Libc | undefined): Source {
  const bun = (globalThis as { Bun?: BunGlobal }).Bun;
  const shown = bun?.inspect(blob) ?? "";
  if (!bun || !shown.startsWith("FileRef")) return new BlobSource(blob, NOT_REGULAR);
  const { name } = blob as Blob & { name?: string };
  const start = name === undefined ? undefined : sliceStart(bun, shown, name);
  if (start === undefined) {
    return new BlobSource(blob, BUN_FILE_UNKNOWN);
  }
  // Bun does not know the size of an open-ended slice before reading it, and reports one near 2^52.
  const limit = blob.size < 2 ** 51 ? blob.size : undefined;
  return openPath(name!, libc, start, limit);
}

/**
 * Where a slice of `Bun.file` starts. Only its printed form (`Bun.inspect`) shows it. Before relying on that form, we
 * check it on a slice whose start is known: if the form had changed, a slice would be taken for the whole file and send
 * the wrong bytes.
 */
function sliceStart(bun: BunGlobal, shown: string, name: string): number | undefined {
  const offset = (text: string) => Number(/^ {2}offset: (\d+)/m.exec(text)?.[1] ?? 0);
  return offset(bun.inspect(bun.file("/").slice(7))) === 7 ? offset(shown.replace(name, "")) : undefined;
}
