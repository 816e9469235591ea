/** Bun's own sockets, files and server. */
import { sendfile } from "@zerocopy/sendfile";
import { serveDir } from "@zerocopy/sendfile/http";

Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    async open(socket) {
      const sent: number = await sendfile(socket, Bun.file("file").slice(1, 2));
      // @ts-expect-error an option that does not exist
      await sendfile(socket, "file", { length: sent });
    },
    data() {},
  },
});
const client = await Bun.connect({ unix: "socket", socket: { data() {} } });
await sendfile(client, "file");
Bun.serve({ port: 0, fetch: (request) => serveDir(request, { fsRoot: "public" }) });
const datagrams = await Bun.udpSocket({});
// @ts-expect-error datagrams are no stream
await sendfile(datagrams, "file");
