import process from "node:process";
import { type FileStream, LOSES_RANGES } from "./fetch_response.ts";
import { isBunServer, isTls } from "./server_info.ts";
import {
  FILE_OPENED_AGAIN,
  NO_BUN_SERVER,
  NOT_LINUX,
  OLD_BUN_RANGE,
  RATE_LIMIT,
  SEVERAL_RANGES,
  SMALL_FOR_BUN,
  TLS,
} from "../../reasons.ts";

/** Bun.serve sends a Bun.file, or a slice of one, by sendfile(2) from this many bytes on (strace, Bun 1.4.5). */
const SENDFILE_FROM = 1024 * 1024;

/**
 * The reason why Bun.serve copies a body; undefined if it sends it by sendfile(2), over TCP and unix sockets alike,
 * also after `new Response(response.body)`.
 */
export function whyBunCopies(
  { body, isBunFile, rateLimit }: FileStream,
  request: Request,
  info: unknown,
): string | undefined {
  if (!isBunServer(request, info)) return NO_BUN_SERVER;
  if (isTls(request)) return TLS;
  if (process.platform !== "linux") return NOT_LINUX;
  if (!isBunFile) {
    if (rateLimit !== undefined) return RATE_LIMIT;
    if (body.parts.length > 1) return SEVERAL_RANGES;
    return LOSES_RANGES && body.length < body.file.size ? OLD_BUN_RANGE : FILE_OPENED_AGAIN;
  }
  return body.length < SENDFILE_FROM ? SMALL_FOR_BUN : undefined;
}
