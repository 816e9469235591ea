// @ts-types="@types/mime-types"
import mime from "mime-types";
import { extname } from "@std/path";

const known = new Map<string, string>();

/** The `Content-Type` of a file by its name's extension, with the charset for text. */
export function contentType(path: string): string {
  const extension = extname(path);
  let type = known.get(extension);
  if (type === undefined) {
    if (known.size === 1000) known.clear();
    known.set(extension, type = (extension && mime.contentType(extension)) || "application/octet-stream");
  }
  return type;
}
