import process from "node:process";
import type { FileStream } from "./fetch_response.ts";
import { isBunServer, isTls } from "./server_info.ts";

/** Bun.serve sends a Bun.file, or a slice of one, by sendfile(2) from so many bytes up (strace, Bun 1.4.5). */
const SENDFILE_FROM = 1024 * 1024;

/**
 * Why Bun.serve copies a body; undefined where it sends it by sendfile(2), on TCP and unix sockets alike. It is also
 * sent so through `new Response(response.body)`.
 */
export function whyBunCopies(
  { body, isBunFile, rateLimit }: FileStream,
  request: Request,
  info: unknown,
): string | undefined {
  if (!isBunServer(request, info)) return "the handler was not given Bun's server";
  if (isTls(request)) return "TLS";
  if (process.platform !== "linux") return "not Linux";
  if (!isBunFile) {
    if (rateLimit !== undefined) return "Bun.serve cannot limit the rate of a file";
    if (body.parts.length > 1) return "Bun.serve cannot send several ranges of a file";
    return "Bun.serve would open the file again, and could find another";
  }
  return body.length < SENDFILE_FROM ? "Bun.serve copies bodies below 1 MiB" : undefined;
}
