/**
 * The property by which a server of this package says that it sends the files of a response itself, so that they need
 * not be read or opened again. It is on the request, and a middleware that copies the request does not copy it.
 */
export const KEEP_FILE: unique symbol = Symbol("@zerocopy/sendfile.keepFile");

/** Marks the `info` argument of a handler that a server of this package calls: withSendfile need not send the files. */
export const OWN_SERVER: unique symbol = Symbol.for("@zerocopy/sendfile.ownServer");

/**
 * Registers a function that closes the file of a response. It is called when the request is over, if the file was
 * neither sent nor read.
 */
export type KeepFile = (discard: () => void) => void;

/** The server's KeepFile function for `request`, if it has one. */
export function keepFileOf(request: Request): KeepFile | undefined {
  return (request as { readonly [KEEP_FILE]?: KeepFile })[KEEP_FILE];
}
