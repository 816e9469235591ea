import { OWN_SERVER } from "../keep_file.ts";

/** What the runtime's server tells of a request: to handlers as their second argument, and where srvx has that. */

/** srvx calls its handlers with the request alone, and its middleware with a function of its own as the second. */
interface WithRuntime {
  readonly runtime?: {
    readonly deno?: { readonly info?: unknown };
    readonly bun?: { readonly server?: unknown };
  };
}

/** Where Deno.serve has the request's connection from. */
export function remoteAddrOf(
  request: Request,
  info: unknown,
): Partial<Deno.ServeHandlerInfo>["remoteAddr"] {
  const addrOf = (value: unknown) => (value as Partial<Deno.ServeHandlerInfo> | null | undefined)?.remoteAddr;
  return addrOf(info) ?? addrOf((request as WithRuntime).runtime?.deno?.info);
}

/** Whether it is a Bun.serve that has called the handler. */
export function isBunServer(request: Request, info: unknown): boolean {
  const isServer = (value: unknown) => typeof value === "object" && value !== null && "requestIP" in value;
  return isServer(info) || isServer((request as WithRuntime).runtime?.bun?.server);
}

/** Whether it is a server of this package that has called the handler, which sends files itself. */
export function isOwnServer(request: Request, info: unknown): boolean {
  const isOwn = (value: unknown) => typeof value === "object" && value !== null && OWN_SERVER in value;
  return isOwn(info) || isOwn((request as WithRuntime).runtime?.deno?.info);
}

const url = Object.getOwnPropertyDescriptor(Request.prototype, "url")?.get;

/**
 * Whether a request came by TLS. By the URL that the server gave it: with `trustProxy` srvx puts another over it, that
 * of the proxy in front, whose connection to here is in the clear.
 */
export function isTls(request: Request): boolean {
  return serversUrlOf(request).startsWith("https:");
}

function serversUrlOf(request: Request): string {
  try {
    return url!.call(request) as string;
  } catch {
    return request.url; // a framework's own kind of request
  }
}
