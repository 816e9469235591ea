/** Right and wrong calls as programs make them that have Node.js' types: on Node.js, Bun and Deno. */
import {
  ConnectionClosedError,
  createSendfileCallable,
  sendfile,
  type SendfileFile,
  SendfileRegion,
  type SendfileSocket,
  sendfileSync,
} from "@zerocopy/sendfile";
import { readable } from "@zerocopy/sendfile/ffi";
import { serveDir, type ServeDirOptions, serveFile, type StdFileInfo } from "@zerocopy/sendfile/http";
import { type HttpError, sendFile, type Sent, serveStatic } from "@zerocopy/sendfile/node";
import type { FileHandle } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";

type IsAny<T> = 0 extends (1 & T) ? true : false;

/** What cannot be resolved is `any`, and takes all. */
export const known: { socket: IsAny<SendfileSocket>; file: IsAny<SendfileFile> } = {
  socket: false,
  file: false,
};

/** Sockets and files that are right. */
export async function raw(socket: Socket, tls: TLSSocket, handle: FileHandle, blob: Blob): Promise<number> {
  const { signal } = new AbortController();
  const sent: number = await sendfile(socket, "file", { offset: 1, count: 2, signal, timeout: 1000 });
  await sendfile(tls, handle, { onProgress: (bytes) => bytes.toFixed() });
  await sendfile(3, 4, { header: new Uint8Array(1), fallback: false });
  await sendfile(socket, new URL("file:///file"), { rateLimit: 1e6 });
  await sendfile(socket, blob);
  await createSendfileCallable(socket)(new SendfileRegion(new URL("file:///file"), 1), 2, 3);
  await readable(3, { signal });
  return sent + sendfileSync(socket, "file", { timeout: 5 });
}

/** Responses go to servers as the program's own `Response`. */
export async function web(request: Request, info: StdFileInfo): Promise<Response> {
  const options: ServeDirOptions = {
    fsRoot: "public",
    headers: (path, { size, mtime }) => ({ "x-path": `${path} ${size} ${mtime.getTime()}` }),
    fallthrough: () => new Response("none"),
  };
  const response = await serveDir(request, options);
  await serveDir(request, { headers: () => new Headers({ a: "b" }) });
  await serveDir(request, { headers: () => [["a", "b"], ["a", "c"]], precompressed: ["br"] });
  return response.ok ? response : serveFile(request, new URL("file:///404.html"), { fileInfo: info });
}

/** node:http, and what is built like it. */
export async function node(request: IncomingMessage, response: ServerResponse): Promise<Sent> {
  createServer(
    serveStatic("public", { maxAge: "1d", setHeaders: (to, path) => to.setHeader("x-path", path) }),
  );
  serveStatic("public", { index: false, fallthrough: false })(request, response, (error?: unknown) => {
    (error as HttpError).status.toFixed();
  });
  return await sendFile(request, response, "file", { root: "public", headers: { a: ["b", "c"] } });
}

/** Calls that are wrong. */
export async function wrong(socket: Socket, request: Request, response: ServerResponse): Promise<void> {
  // @ts-expect-error a response is no socket
  await sendfile(response, "file");
  // @ts-expect-error a path is no socket
  await sendfile("path", "file");
  // @ts-expect-error a socket is no file
  await sendfile(socket, socket);
  // @ts-expect-error bytes are no file
  await sendfile(socket, new Uint8Array(1));
  // @ts-expect-error an offset is a number
  await sendfile(socket, "file", { offset: 1n });
  // @ts-expect-error an option that does not exist
  await sendfile(socket, "file", { length: 1 });
  // @ts-expect-error a text is no signal
  await sendfile(socket, "file", { signal: "abort" });
  // @ts-expect-error the blocking call has no callbacks
  sendfileSync(socket, "file", { onProgress: () => {} });
  // @ts-expect-error a whole number of seconds, not a text
  await serveDir(request, { maxAge: "1h" });
  // @ts-expect-error a header field's value is a text
  await serveDir(request, { headers: () => ({ "x-size": 1 }) });
  // @ts-expect-error it resolves to a response, which is no text
  const text: string = await serveFile(request, "file");
  // @ts-expect-error a request of the web's is none of node:http's
  await sendFile(request, response, "file");
  // @ts-expect-error one of three words
  serveStatic("public", { dotfiles: "maybe" });
  // @ts-expect-error a root is named
  serveStatic();
  // @ts-expect-error what was sent is a number
  new ConnectionClosedError(text, { code: "EPIPE", syscall: "send", sent: "all" });
}
