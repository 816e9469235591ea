import type { ResponsePlan } from "../http/file_response.ts";
import { planDirectory } from "../http/directory.ts";
import { resolveDirectoryOptions } from "../http/options.ts";
import { parseTarget } from "../http/root/request_target.ts";
import { LARGEST_KEPT } from "../http/root/small_file_cache.ts";
import type { Site } from "../server/connection.ts";
import type { Head } from "../server/request_head.ts";
import { BasicAuth } from "./basic_auth.ts";
import { clientBehindProxy } from "./client_address.ts";
import type { Command } from "./arguments.ts";
import { Changes } from "./changes.ts";
import { LiveReload } from "./live_reload.ts";
import { CompressedFiles } from "./compressed_files.ts";
import { asErrorPage } from "./error_page.ts";
import { logLine } from "./access_log.ts";

/** The site that the command describes, for the directory `root`. Throws `TypeError` for an invalid header field. */
export function siteOf(root: string, command: Command): Site {
  const { log, watch } = command;
  const changes = watch ? new Changes(root, command.dotfiles) : undefined;
  const reload = changes && new LiveReload(changes);
  const compressed = command.compress && !watch ? new CompressedFiles() : undefined;
  const options = resolveDirectoryOptions({
    showDirListing: command.listing,
    showDotfiles: command.dotfiles,
    enableCors: command.cors,
    headers: command.headers,
    followSymlinks: command.followSymlinks,
    cleanUrls: command.cleanUrls,
    spa: command.spa,
    precompressed: command.precompressed && !watch,
    ...cachingOf(command),
    rateLimit: command.rateLimit,
  });
  const resolved = { ...options, largestKept: watch ? 0 : LARGEST_KEPT, codingFor: compressed?.codingFor };
  const auth = command.auth === undefined ? undefined : new BasicAuth(command.auth);
  const plan = (request: Head) => {
    const refused = auth?.refuse(request, resolved);
    if (refused) return refused;
    if (reload?.isOwn(request.target)) return reload.plan(request);
    const whole = reload?.withoutParts(request) ?? request;
    return planDirectory(whole, resolved, root, parseTarget(request.target));
  };
  const finishFile = (request: Head, plan: ResponsePlan) => {
    if (plan.status >= 400) return asErrorPage(plan, request, resolved, root);
    return plan.coding === undefined ? plan : compressed!.carryOut(plan, request, resolved);
  };
  const finish = reload === undefined
    ? finishFile
    : async (request: Head, plan: ResponsePlan) =>
      reload.inject(await finishFile(request, plan), request, resolved);
  return {
    resolved,
    plan(request) {
      const planned = plan(request);
      return planned instanceof Promise
        ? planned.then((plan) => finish(request, plan))
        : finish(request, planned);
    },
    maxConnections: command.maxConnections,
    maxConnectionsPerAddress: command.maxConnectionsPerAddress,
    onError: console.error,
    onWarning: (line) => console.error(line),
    onStop: () => changes?.close(),
    onSent: log === "none" ? undefined : (request, sent, peer, began) => {
      if (sent.status < 400 && reload?.isOwn(request.target)) return; // a refused login is logged wherever it was tried
      const client = command.trustProxy ? clientBehindProxy(peer, request.field) : peer;
      console.log(logLine(log, request, sent, client, began));
    },
  };
}

/**
 * The caching options. With a password, `public` is not used, because a shared cache would serve the file to others
 * (RFC 9111, 3.5).
 */
function cachingOf({ auth, maxAge, watch }: Command): { cacheControl?: string; maxAge?: number } {
  if (watch) return { cacheControl: "no-cache" }; // a reload must also fetch the page's scripts and styles again
  return auth !== undefined && maxAge !== undefined
    ? { cacheControl: `private, max-age=${maxAge}` }
    : { maxAge };
}
