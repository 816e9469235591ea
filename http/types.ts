// @ts-types="@types/mime-types"
import mime from "mime-types";
import { extname } from "@std/path";

/** The `Content-Type` of a file by its name's extension, with the charset for text. */
export function contentType(path: string): string {
  const extension = extname(path);
  return (extension && mime.contentType(extension)) || "application/octet-stream";
}
