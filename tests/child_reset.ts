/** Opens as many connections as it is told, and resets each. */
import * as net from "node:net";
import process from "node:process";

const [port, count] = process.argv.slice(2).map(Number);
for (let i = 0; i < count; i++) {
  const socket = net.connect({ port, host: "127.0.0.1" }, () => socket.resetAndDestroy());
}
