/**
 * Clients in a process of their own, which take all that comes and never stop. `PORT COUNT`: so many connections;
 * `PORT COUNT PATH`: HTTP clients that ask for PATH again and again without waiting for an answer.
 */
import * as net from "node:net";
import process from "node:process";

const [port, count, path] = process.argv.slice(2);
for (let i = 0; i < Number(count); i++) {
  const socket = net.connect(Number(port), "127.0.0.1");
  socket.resume();
  socket.on("error", () => {/* the test has ended */});
  if (path === undefined) continue;
  const requests = `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(64);
  const ask = () => {
    while (socket.write(requests));
  };
  socket.on("drain", ask);
  socket.once("connect", ask);
}
