/**
 * How a server of this package says that it sends the files of a response itself, so that they need be neither read nor
 * opened anew for it. It is on the request: no middleware hands that on by copying it.
 */
export const KEEP_FILE: unique symbol = Symbol("@zerocopy/sendfile.keepFile");

/** On what a handler is told of a request that a server of this package has: no other has to send its files. */
export const OWN_SERVER: unique symbol = Symbol.for("@zerocopy/sendfile.ownServer");

/** Takes what closes the file of a response, where that was neither sent nor read: called when the request is over. */
export type KeepFile = (discard: () => void) => void;

/** What the server of `request` says of it. */
export function keepFileOf(request: Request): KeepFile | undefined {
  return (request as { readonly [KEEP_FILE]?: KeepFile })[KEEP_FILE];
}
