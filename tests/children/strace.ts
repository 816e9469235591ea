/** Sends the file named by the first argument over a connection to itself, and looks at none of its bytes. */
import * as net from "node:net";
import process from "node:process";
import { sendfile } from "../../mod.ts";

const server = net.createServer(async (socket) => {
  await sendfile(socket, process.argv[2], { fallback: false });
  socket.end();
  server.close();
});
server.listen(0, "127.0.0.1", () => {
  const client = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
  client.on("data", () => {});
  client.on("end", () => client.end());
});
