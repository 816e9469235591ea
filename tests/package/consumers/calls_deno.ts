/** Deno's own sockets, files and server. */
import { sendfile } from "@zerocopy/sendfile";
import { serveDir, serveFile, withSendfile } from "@zerocopy/sendfile/http";

/** Sockets and files that are right. */
export async function raw(tcp: Deno.TcpConn, unix: Deno.UnixConn, tls: Deno.TlsConn, conn: Deno.Conn) {
  using file = await Deno.open("file");
  await sendfile(tcp, file);
  await sendfile(unix, file);
  await sendfile(tls, "file");
  await sendfile(conn, "file");
  // @ts-expect-error an option that does not exist
  await sendfile(conn, "file", { length: 1 });
}

/** Handlers that are right. */
export function handlers(): void {
  Deno.serve((request) => serveDir(request, { fsRoot: "public" }));
  Deno.serve(withSendfile((request) => serveDir(request)));
  Deno.serve(withSendfile((request, info: Deno.ServeHandlerInfo) => {
    const { hostname } = info.remoteAddr as Deno.NetAddr;
    return serveFile(request, hostname, { fileInfo: Deno.statSync("file") });
  }));
}

/** Calls that are wrong. */
export async function wrong(listener: Deno.Listener, datagrams: Deno.DatagramConn): Promise<void> {
  // @ts-expect-error a listener is no connection
  await sendfile(listener, "file");
  // @ts-expect-error datagrams are no stream
  await sendfile(datagrams, "file");
}
