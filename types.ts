/**
 * Types of the runtimes' and the web's own objects, for declarations that any program can compile: with or without the
 * types of Deno, Bun, Node.js or a browser.
 *
 * A `Web…` type is the global class of that name where the program has one, so that its values go in and out without a
 * cast, and otherwise the part in use. It is what the class constructs: Bun's
 * type of `Response` has no prototype of its own, and that of all functions is `any`. The others have the part in use only: Deno's classes are global nowhere else.
 *
 * @module
 */

/** The web's `AbortSignal`. By its prototype: nothing is constructed with `new AbortSignal`, as Deno's type says. */
export type WebAbortSignal = typeof globalThis extends { AbortSignal: { prototype: infer Signal } } ? Signal
  : AbortSignalLike;

/** The web's `Blob`, and so what `Bun.file` gives. */
export type WebBlob = typeof globalThis extends { Blob: new (...of: never[]) => infer Blob } ? Blob
  : BlobLike;

/** The web's `Request`. */
export type WebRequest = typeof globalThis extends { Request: new (...of: never[]) => infer Request }
  ? Request
  : RequestLike;

/** The web's `Response`. */
export type WebResponse = typeof globalThis extends { Response: new (...of: never[]) => infer Response }
  ? Response
  : ResponseLike;

/** The web's `URL`. */
export type WebURL = typeof globalThis extends { URL: new (...of: never[]) => infer URL } ? URL : URLLike;

/** What programs without the web's types see of an `AbortSignal`. */
export interface AbortSignalLike {
  /** Whether it has fired. */
  readonly aborted: boolean;
  /** What it fired with. */
  readonly reason: unknown;
  /** Throws `reason` where it has fired. */
  throwIfAborted(): void;
  /** Adds a listener. */
  addEventListener(type: "abort", listener: () => void, options?: { once?: boolean }): void;
  /** Takes a listener off. */
  removeEventListener(type: "abort", listener: () => void): void;
}

/** What programs without the web's types see of a `Blob`. */
export interface BlobLike {
  /** Bytes. */
  readonly size: number;
  /** A part of it. */
  slice(start?: number, end?: number): BlobLike;
  /** Its bytes. */
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** What programs without the web's types see of a `Request`. */
export interface RequestLike {
  /** `GET`, `HEAD`, … */
  readonly method: string;
  /** The whole URL. */
  readonly url: string;
  /** The header fields. */
  readonly headers: {
    /** A field's value, by its name in any case. */
    get(name: string): string | null;
    /** Whether there is such a field. */
    has(name: string): boolean;
  };
}

/** What programs without the web's types see of a `Response`. */
export interface ResponseLike {
  /** The status code. */
  readonly status: number;
  /** The reason phrase. */
  readonly statusText: string;
  /** The header fields. */
  readonly headers: RequestLike["headers"];
  /** All of the body's bytes. */
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** What programs without the web's types see of a `URL`. */
export interface URLLike {
  /** The whole. */
  readonly href: string;
  /** `file:`, `https:`, … */
  readonly protocol: string;
  /** The path, percent-encoded. */
  readonly pathname: string;
}

/** Header fields as `new Headers` takes them: an object, pairs, or `Headers`. */
export type HeaderFields = Iterable<readonly [string, string]> | Readonly<Record<string, string>>;

/** One end of a `Deno.Conn`. */
export interface DenoAddrLike {
  /** `tcp`, `unix`, … */
  readonly transport: string;
  /** The IP address, of TCP. */
  readonly hostname?: string;
  /** The port, of TCP. */
  readonly port?: number;
}

/** The part in use of `Deno.Conn`. */
export interface DenoConnLike {
  /** This end. */
  readonly localAddr: DenoAddrLike;
  /** The peer's end. */
  readonly remoteAddr: DenoAddrLike;
  /** Reads some bytes; null at the end. */
  read(into: Uint8Array): Promise<number | null>;
  /** Writes some of the bytes. */
  write(bytes: Uint8Array): Promise<number>;
  /** Ends the sending direction. */
  closeWrite(): Promise<void>;
  /** TCP_NODELAY, which only TCP connections have. */
  setNoDelay?(on?: boolean): void;
}

/** The part in use of `Deno.FsFile`. */
export interface DenoFsFileLike {
  /** What it is. */
  statSync(): DenoFsFileStat;
  /** Moves its position. */
  seek(offset: number, whence: number): Promise<number>;
  /** Moves its position. */
  seekSync(offset: number, whence: number): number;
  /** Reads at its position; null at the end. */
  read(into: Uint8Array): Promise<number | null>;
}

/** What `Deno.FsFile` tells of itself, as far as it is used. */
export interface DenoFsFileStat {
  /** Whether it is a regular file. */
  readonly isFile: boolean;
  /** Whether it is a directory. */
  readonly isDirectory: boolean;
  /** Bytes. */
  readonly size: number;
  /** The device's number. */
  readonly dev: number;
  /** The file's number on it; null where the system has none. */
  readonly ino: number | null;
}
