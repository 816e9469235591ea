/** Every kind of socket of this runtime. */
import { findConnection } from "../../ffi/find.ts";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import { isBun } from "./harness.ts";
import { connectionOf, type Kind, type Pair } from "./pair.ts";
import { bunAccepted, bunConnected, bunTls, bunUnix } from "./pairs_bun.ts";
import { denoAccepted, denoConnected, denoTls, denoUnix } from "./pairs_deno.ts";
import { descriptor, nodeAccepted, nodeConnected, nodeHttp, nodeTls } from "./pairs_node.ts";

/** What came of a transfer over `kind`: on a node:http socket a head precedes it. */
export function bodyOf(kind: Kind, received: Uint8Array): Uint8Array {
  if (kind !== nodeHttp) return received;
  const end = new TextDecoder("latin1").decode(received).indexOf("\r\n\r\n");
  if (end <= 0) throw new Error("the body came before the head");
  return received.subarray(end + 4);
}

/** The descriptor of a TCP pair's socket under test, at this moment. */
export function descriptorOf({ peer: { socket } }: Pair): number {
  const libc = loadLibc() as Libc;
  const { local, remote } = connectionOf(libc, socket);
  const fd = findConnection(libc, { local: remote, remote: local });
  if (fd === undefined) throw new Error("the pair's descriptor was not found");
  return fd;
}

/** The runtime's own raw socket. */
export const raw: Kind = isBun ? bunAccepted : denoAccepted;

/** The runtime's own TLS socket. */
export const secure: Kind = isBun ? bunTls : denoTls;

/** Every kind of socket of this runtime. */
export const kinds: readonly Kind[] = [
  ...(isBun
    ? [bunAccepted, bunConnected, bunUnix, bunTls]
    : [denoAccepted, denoConnected, denoUnix, denoTls]),
  nodeAccepted,
  nodeConnected,
  nodeTls,
  nodeHttp,
  descriptor,
];
