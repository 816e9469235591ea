/**
 * A stable code for the reason why sendfile(2) is not used, to count and to compare. It does not change when the text
 * is improved. "other": the text is not from this package.
 */
export type ReasonCode =
  | "below-threshold"
  | "busy"
  | "bytes-pending"
  | "connection-ended"
  | "connection-unknown"
  | "descriptor-not-found"
  | "file-changed"
  | "file-not-found"
  | "head-unexpected"
  | "kernel-refused"
  | "kernel-without-sendfile"
  | "libc-not-loaded"
  | "no-address"
  | "no-descriptor"
  | "no-descriptors-left"
  | "no-ffi"
  | "no-ffi-permission"
  | "not-ip"
  | "not-regular-file"
  | "other"
  | "rate-limit"
  | "response-changed"
  | "runtime-too-old"
  | "several-connections"
  | "several-ranges"
  | "socket-closed"
  | "tls"
  | "too-many-descriptors"
  | "turned-off"
  | "unix-socket"
  | "unsupported-system";

const codes = new Map<string, ReasonCode>();
const beginnings: (readonly [text: string, code: ReasonCode])[] = [];

/** Registers a reason by its whole text. */
function reason(code: ReasonCode, text: string): string {
  codes.set(text, code);
  return text;
}

/** The beginnings of reasons that end in details of the case. */
function beginning(code: ReasonCode, text: string): string {
  beginnings.push([text, code]);
  return text;
}

/** The code of a reason's text. */
export function codeOf(text: string): ReasonCode {
  return codes.get(text) ?? beginnings.find(([start]) => text.startsWith(start))?.[1] ?? "other";
}

/** The code of each reason, by its text or the beginning of it. */
export function allReasons(): readonly (readonly [text: string, code: ReasonCode])[] {
  return [...codes, ...beginnings];
}

// This process
export const TURNED_OFF = beginning("turned-off", "turned off by ");
export const OFF_ON_MACOS = beginning("turned-off", "off on macOS unless ");
export const NO_ABI = beginning("unsupported-system", "no ABI file for ");
export const NO_SENDFILE_ON = beginning("unsupported-system", "no sendfile on ");
export const NOT_LINUX = reason("unsupported-system", "not Linux");
export const NO_TCP_INFO = reason(
  "unsupported-system",
  "the system does not report how many bytes the connection has written",
);
export const OLD_DENO = reason("runtime-too-old", "Deno 2.8 or newer is needed");
export const OLD_BUN = reason("runtime-too-old", "Bun 1.3.3 or newer is needed");
export const NO_FFI = reason("no-ffi", "this runtime has no FFI");
export const NO_PERMISSION = reason(
  "no-ffi-permission",
  "no permission: run with --allow-ffi (or --allow-ffi=<absolute path of libc>)",
);
export const LIBC_NOT_LOADED = beginning("libc-not-loaded", "the C library could not be loaded: ");
export const NO_SENDFILE = reason("kernel-without-sendfile", "the kernel has no sendfile (ENOSYS)");

// The call
export const SENDFILE_REFUSED = beginning("kernel-refused", "sendfile: ");
export const NO_DUPLICATE = beginning("no-descriptors-left", "dup: ");
export const BUSY = reason("busy", "another transfer of this socket is under way");
export const RUNTIME_HOLDS_BYTES = reason("bytes-pending", "the runtime still holds earlier bytes");

// The file
export const NOT_REGULAR = reason("not-regular-file", "not a regular file");
export const FS_FILE_NOT_FOUND = reason("file-not-found", "no descriptor of this Deno.FsFile was found");
export const BUN_FILE_UNKNOWN = reason(
  "file-not-found",
  "the path or the start of this Bun.file is unknown",
);
export const FILE_GONE = reason("file-changed", "the file no longer exists");
export const FILE_REPLACED = reason("file-changed", "the file was replaced");
export const OLD_BUN_RANGE = reason(
  "runtime-too-old",
  "Bun before 1.4.1 may send the whole file in place of a range",
);
export const FILE_OPENED_AGAIN = reason(
  "file-changed",
  "Bun.serve would open the path again, and could find another file",
);

// The socket
export const TLS = reason("tls", "TLS");
export const SOCKET_CLOSED = reason("socket-closed", "the socket is closed");
export const UNIX_SOCKET = reason("unix-socket", "Deno does not expose the descriptor of a unix socket");
export const NOT_IP = reason("not-ip", "its addresses are not IP addresses");
export const DENO_GAVE_NONE = reason("no-descriptor", "Deno returned no descriptor for this socket");
export const RUNTIME_TELLS_NONE = reason(
  "no-descriptor",
  "the runtime does not expose the descriptor of this socket",
);
export const NOT_FOUND = reason("descriptor-not-found", "its descriptor was not found");
export const NOT_FOUND_ALONE = reason(
  "descriptor-not-found",
  "its descriptor was not found, or is not the only one with its addresses",
);
export const FOUND_ANOTHER = reason(
  "descriptor-not-found",
  "the descriptor with its addresses belongs to another connection",
);
export const SERVER_HOLDS_BYTES = reason("bytes-pending", "the server still holds earlier bytes");

// The server's connection and response
export const BELOW_THRESHOLD = reason("below-threshold", "the body is below the threshold");
export const SMALL_RANGE = reason("below-threshold", "the first range is small");
export const SMALL_FOR_BUN = reason("below-threshold", "Bun.serve copies bodies below 1 MiB");
export const RATE_LIMIT = reason("rate-limit", "Bun.serve cannot limit the rate of a file");
export const SEVERAL_RANGES = reason("several-ranges", "Bun.serve cannot send several ranges of a file");
export const RESPONSE_CHANGED = reason(
  "response-changed",
  "the status or the length no longer match the file",
);
export const TRANSFER_ENCODING = reason("response-changed", "the response has a Transfer-Encoding");
export const NO_ADDRESS = reason("no-address", "the handler was not given the connection's address");
export const NO_BUN_SERVER = reason("no-address", "the handler was not given Bun's server");
export const NOT_TCP = reason("unix-socket", "not a TCP connection");
export const ADDRESS_NOT_IP = reason("not-ip", "its address is not an IP address");
export const SEVERAL_CONNECTIONS = reason("several-connections", "several connections have this peer");
export const TOO_MANY_DESCRIPTORS = reason(
  "too-many-descriptors",
  "the search through all open descriptors would cost more than this body saves",
);
export const NOT_FIRST = reason("connection-unknown", "the connection was not seen from its first byte");
export const RESPONSE_UNDER_WAY = reason("bytes-pending", "an earlier response is still under way");
export const SERVER_CLOSED = reason("connection-ended", "the server has closed the connection");
export const CONNECTION_ENDED = reason("connection-ended", "the connection has ended");
export const OTHER_HEAD = reason(
  "head-unexpected",
  "the server wrote something other than the expected head",
);
export const HEAD_LATE = reason(
  "head-unexpected",
  "the server did not write the expected head in time",
);
