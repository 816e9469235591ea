/**
 * The header fields that the package's servers send with a file, for the other servers in a benchmark. All but the
 * length are constant, because only the number of bytes in a head matters. JavaScript, because Node.js imports it too.
 */
import process from "node:process";

/** Where a server listens. */
export const hostname = process.env.BENCH_HOST ?? "127.0.0.1";

/**
 * The field that makes a head as long as the longest; none if it is that long already.
 * @type {Readonly<Record<string, string>>}
 */
export const pad = process.env.BENCH_PAD ? { "X-Pad": process.env.BENCH_PAD } : {};

/**
 * The fields of every server, except Date, Content-Length and the pad.
 * @type {Readonly<Record<string, string>>}
 */
export const fields = {
  "Accept-Ranges": "bytes",
  "ETag": '"100000-6b013e87.28599f8e"',
  "Last-Modified": "Sat, 21 Nov 2026 06:47:35 GMT",
  "Content-Type": "application/octet-stream",
};
