/**
 * The header fields that the package's servers send with a file, for those servers in a benchmark that have to be told.
 * All but the length are constant: what counts here is how many bytes a head has. JavaScript, as Node.js reads it too.
 */
import process from "node:process";

/** Where a server listens. */
export const hostname = process.env.BENCH_HOST ?? "127.0.0.1";

/**
 * The field that makes a head as long as the others'; none where it is as long already.
 * @type {Readonly<Record<string, string>>}
 */
export const pad = process.env.BENCH_PAD ? { "X-Pad": process.env.BENCH_PAD } : {};

/**
 * Those of every server but Date, Content-Length and the pad.
 * @type {Readonly<Record<string, string>>}
 */
export const fields = {
  "Accept-Ranges": "bytes",
  "ETag": '"100000-6b013e87.28599f8e"',
  "Last-Modified": "Sat, 21 Nov 2026 06:47:35 GMT",
  "Content-Type": "application/octet-stream",
};
