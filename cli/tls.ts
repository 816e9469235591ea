import * as fs from "node:fs";
import type { TlsIdentity } from "../server/transport.ts";
import { Failure } from "./arguments.ts";

/** The two files of a server's certificate, as the command line names them. */
export interface TlsFiles {
  /** The certificate followed by its intermediate certificates, as PEM. */
  readonly cert: string;
  /** Its private key, as PEM. */
  readonly key: string;
}

/** Reads both files. Throws {@link Failure}. */
export function readTls({ cert, key }: TlsFiles): TlsIdentity {
  return { cert: read("--tls-cert", cert), key: read("--tls-key", key) };
}

function read(flag: string, path: string): string {
  let text: string;
  try {
    text = fs.readFileSync(path, "utf8");
  } catch (error) {
    throw new Failure(`cannot read the file of ${flag}: ${(error as Error).message}`, 1);
  }
  // We check here because the runtimes' errors name neither the file nor the flag: "NO_START_LINE".
  if (!text.includes("-----BEGIN ")) throw new Failure(`the file of ${flag} is not PEM: ${path}`, 1);
  return text;
}
