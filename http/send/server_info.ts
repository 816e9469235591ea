import { OWN_SERVER } from "../keep_file.ts";

/**
 * The information that a server gives with a request: the handler's second argument, or `request.runtime` under srvx.
 */

/** srvx passes handlers only the request, and passes middleware its own function as the second argument. */
interface WithRuntime {
  readonly runtime?: {
    readonly deno?: { readonly info?: unknown };
    readonly bun?: { readonly server?: unknown };
  };
}

/** The address of the client, as Deno.serve reports it. */
export function remoteAddrOf(
  request: Request,
  info: unknown,
): Partial<Deno.ServeHandlerInfo>["remoteAddr"] {
  const addrOf = (value: unknown) => (value as Partial<Deno.ServeHandlerInfo> | null | undefined)?.remoteAddr;
  return addrOf(info) ?? addrOf((request as WithRuntime).runtime?.deno?.info);
}

/** Whether Bun.serve called the handler. */
export function isBunServer(request: Request, info: unknown): boolean {
  const isServer = (value: unknown) => typeof value === "object" && value !== null && "requestIP" in value;
  return isServer(info) || isServer((request as WithRuntime).runtime?.bun?.server);
}

/** Whether a server of this package called the handler. Such a server sends files itself. */
export function isOwnServer(request: Request, info: unknown): boolean {
  const isOwn = (value: unknown) => typeof value === "object" && value !== null && OWN_SERVER in value;
  return isOwn(info) || isOwn((request as WithRuntime).runtime?.deno?.info);
}

const url = Object.getOwnPropertyDescriptor(Request.prototype, "url")?.get;

/**
 * Whether a request came over TLS. We check the URL that the runtime's server set. With `trustProxy` srvx overrides it
 * with the URL of the proxy in front, although the connection from the proxy is cleartext.
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
