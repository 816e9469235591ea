/**
 * Sends files over sockets with sendfile(2) on Deno and Bun, and falls back to read and write where sendfile(2)
 * cannot be used.
 *
 * @module
 */

export {
  ConnectionClosedError,
  SendfileError,
  SendfileNotAvailableError,
  SendfileTimeoutError,
} from "./errors.ts";
export type { SendfileOptions, SendfileStart, Via } from "./transfer/options.ts";
export type { ReasonCode } from "./reasons.ts";
export { SendfileRegion } from "./files/region.ts";
export { type SendfileReport, sendfileReport, type SocketReport } from "./report/mod.ts";
export {
  canUseSendfile,
  createSendfileCallable,
  sendfile,
  sendfileSync,
  whyNotSendfile,
} from "./sendfile.ts";
export type { FileHandleLike, SendfileFile } from "./files/source.ts";
export { type SendfileStats, sendfileStats } from "./transfer/stats.ts";
export type { SendfileSocket } from "./sockets/mod.ts";
export type { BunSocketLike } from "./sockets/bun_socket.ts";
export type { NodeSocketLike, NodeWriteCallback } from "./sockets/node_socket.ts";
export type {
  AbortSignalLike,
  BlobLike,
  DenoAddrLike,
  DenoConnLike,
  DenoFsFileLike,
  DenoFsFileStat,
  URLLike,
  WebAbortSignal,
  WebBlob,
  WebURL,
} from "./types.ts";
