/** Compiles with no library but the language's own: no types of Deno, Bun, Node.js or the web. */
import {
  canUseSendfile,
  sendfile,
  SendfileError,
  type SendfileFile,
  SendfileRegion,
  type SendfileSocket,
  type SendfileStart,
  sendfileStats,
  type WebAbortSignal,
} from "@zerocopy/sendfile";
import { writable } from "@zerocopy/sendfile/ffi";
import {
  type HeaderFields,
  serveDir,
  serveFile,
  type WebRequest,
  withSendfile,
} from "@zerocopy/sendfile/http";
import { serve } from "@zerocopy/sendfile/serve";

type IsAny<T> = 0 extends (1 & T) ? true : false;

/** What cannot be resolved is `any`, and takes all. */
export const known: { socket: IsAny<SendfileSocket>; file: IsAny<SendfileFile>; request: IsAny<WebRequest> } =
  {
    socket: false,
    file: false,
    request: false,
  };

/** A server that is right. */
export async function serveRight(): Promise<void> {
  const server = serve(
    { port: 0, onListen: ({ port }) => void port.toFixed() },
    (request, { remoteAddr }) => {
      return serveFile(request, remoteAddr.hostname);
    },
  );
  server.unref();
  await server.shutdown();
}

/** Calls that are right. */
export async function right(socket: SendfileSocket, signal: WebAbortSignal): Promise<number> {
  await writable(3, { signal });
  if (!canUseSendfile(socket)) return sendfileStats().copy.bytes;
  try {
    return await sendfile(socket, new SendfileRegion("file", 1, 2), {
      signal,
      header: new Uint8Array(3),
      onStart: ({ via, reason }: SendfileStart) => void `${via} ${reason ?? ""}`,
    });
  } catch (error) {
    return error instanceof SendfileError ? error.sent : 0;
  }
}

/** A handler that is right. */
export const handler = withSendfile(async (request: WebRequest) => {
  const fields: HeaderFields = [["a", "b"]];
  const response = await serveDir(request, { fsRoot: ".", headers: () => fields });
  const status: number = response.status;
  return status === 404 ? serveFile(request, "404.html") : response;
});

/** Calls that are wrong. */
export async function wrong(socket: SendfileSocket, request: WebRequest): Promise<void> {
  // @ts-expect-error a path is no socket
  await sendfile("path", "file");
  // @ts-expect-error an offset is a number
  await sendfile(socket, "file", { offset: "1" });
  // @ts-expect-error an option that does not exist
  await sendfile(socket, "file", { length: 1 });
  // @ts-expect-error a request is no path
  await serveFile("path", request);
}
