/** Clients in a process of their own: each asks once, and closes as soon as it has all of the response. */
import * as net from "node:net";
import process from "node:process";

const [port, path, count] = process.argv.slice(2);

/** Whether all of the response came. */
function askAndClose(): Promise<boolean> {
  const socket = net.connect(Number(port), "127.0.0.1");
  let head = "";
  let left = Infinity;
  socket.once(
    "connect",
    () => socket.write(`GET ${path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n`),
  );
  socket.on("data", (chunk) => {
    if (left === Infinity) {
      head += chunk.toString("latin1");
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) return;
      left = Number(/^content-length: (\d+)/im.exec(head)![1]) - (head.length - end - 4);
    } else left -= chunk.length;
    if (left === 0) socket.destroy();
  });
  return new Promise((resolve) => {
    socket.on("error", () => {});
    socket.on("close", () => resolve(left === 0));
  });
}

let whole = 0;
for (let i = 0; i < Number(count); i++) if (await askAndClose()) whole++;
console.log(`${whole} whole`);
