/**
 * Types for objects of the runtimes and of the web, so that any program can compile our declarations, with or without
 * the types of Deno, Bun, Node.js or a browser.
 *
 * A `Web…` type is the global class of that name if the program has one, so that its values need no cast, and
 * otherwise an interface with the members that we use. It is inferred from the constructor, because Bun's type of
 * `Response` declares no prototype and would give `any`. The other types contain only the members that we use,
 * because the classes of Deno are global only in Deno.
 *
 * @module
 */

/**
 * The web's `AbortSignal`. Inferred from its prototype, because Deno's type says that `AbortSignal` has no
 * constructor.
 */
export type WebAbortSignal = typeof globalThis extends { AbortSignal: { prototype: infer Signal } } ? Signal
  : AbortSignalLike;

/** The web's `Blob`, which is also the type of a `Bun.file`. */
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

/** An `AbortSignal`, for programs without the web's types. */
export interface AbortSignalLike {
  /** Whether the signal has fired. */
  readonly aborted: boolean;
  /** The reason that the signal fired with. */
  readonly reason: unknown;
  /** Throws `reason` if the signal has fired. */
  throwIfAborted(): void;
  /** Adds a listener. */
  addEventListener(type: "abort", listener: () => void, options?: { once?: boolean }): void;
  /** Removes a listener. */
  removeEventListener(type: "abort", listener: () => void): void;
}

/** A `Blob`, for programs without the web's types. */
export interface BlobLike {
  /** Bytes. */
  readonly size: number;
  /** A part of it. */
  slice(start?: number, end?: number): BlobLike;
  /** Its bytes. */
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** A `Request`, for programs without the web's types. */
export interface RequestLike {
  /** `GET`, `HEAD`, … */
  readonly method: string;
  /** The whole URL. */
  readonly url: string;
  /** The header fields. */
  readonly headers: {
    /** A field's value, by its name in any case. */
    get(name: string): string | null;
    /** Whether the field is present. */
    has(name: string): boolean;
  };
}

/** A `Response`, for programs without the web's types. */
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

/** A `URL`, for programs without the web's types. */
export interface URLLike {
  /** The whole URL. */
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
  /** The IP address (TCP only). */
  readonly hostname?: string;
  /** The port (TCP only). */
  readonly port?: number;
}

/** The members of `Deno.Conn` that we use. */
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

/** The members of `Deno.FsFile` that we use. */
export interface DenoFsFileLike {
  /** Looks up the file's type and size. */
  statSync(): DenoFsFileStat;
  /** Moves its position. */
  seek(offset: number, whence: number): Promise<number>;
  /** Moves its position. */
  seekSync(offset: number, whence: number): number;
  /** Reads at its position; null at the end. */
  read(into: Uint8Array): Promise<number | null>;
}

/** The fields that we use of what `Deno.FsFile` stat returns. */
export interface DenoFsFileStat {
  /** Whether it is a regular file. */
  readonly isFile: boolean;
  /** Whether it is a directory. */
  readonly isDirectory: boolean;
  /** Bytes. */
  readonly size: number;
  /** The device's number. */
  readonly dev: number;
  /** The inode number; null if the system has none. */
  readonly ino: number | null;
}
