import * as fs from "node:fs";
import { join } from "node:path";
import { NotTriedError } from "./probe.ts";
import { isGranted } from "../runtime.ts";

/** The directory for temporary files. Reading TMPDIR could prompt. */
const TEMPORARY = "/tmp";

/** Runs `work` with a path for a unix socket, and removes it afterwards. Rejects if it may not be created. */
export async function withUnixPath<T>(work: (path: string) => Promise<T>): Promise<T> {
  for (const name of ["read", "write"] as const) {
    if (!isGranted({ name, path: TEMPORARY })) {
      throw new NotTriedError(`it needs --allow-${name}=${TEMPORARY}`);
    }
  }
  const directory = fs.mkdtempSync(join(TEMPORARY, "sendfile-"));
  try {
    return await work(join(directory, "socket"));
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}
