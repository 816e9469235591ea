import { planDirectory } from "../http/directory.ts";
import { resolveDirectoryOptions } from "../http/options.ts";
import { parseTarget } from "../http/root/request_target.ts";
import type { Site } from "../server/connection.ts";
import type { Command } from "./arguments.ts";
import { logLine } from "./access_log.ts";

/** What the command wants to be served, of the directory `root`. Throws `TypeError` for a header field that is none. */
export function siteOf(root: string, command: Command): Site {
  const { log } = command;
  const resolved = resolveDirectoryOptions({
    showDirListing: command.listing,
    showDotfiles: command.dotfiles,
    enableCors: command.cors,
    headers: command.headers,
    followSymlinks: command.followSymlinks,
    cleanUrls: command.cleanUrls,
    spa: command.spa,
    precompressed: command.precompressed,
    maxAge: command.maxAge,
    rateLimit: command.rateLimit,
  });
  return {
    resolved,
    plan: (request) => planDirectory(request, resolved, root, parseTarget(request.target)),
    maxConnections: command.maxConnections,
    maxConnectionsPerAddress: command.maxConnectionsPerAddress,
    onError: console.error,
    onWarning: (line) => console.error(line),
    onSent: log === "none" ? undefined : (...sent) => console.log(logLine(log, ...sent)),
  };
}
