// Sends a file to whoever connects: bun examples/tcp_bun.ts FILE [PORT], then: nc localhost 9000 > copy
import { sendfile, type SendfileSocket } from "@zerocopy/sendfile";
import process from "node:process";

/** The members of Bun that we use; your own program gets them from @types/bun. */
interface Bun {
  listen(options: {
    hostname: string;
    port: number;
    socket: { open(socket: SendfileSocket & { end(): void }): void; data(): void };
  }): { readonly port: number };
}

const [file, port = "9000"] = process.argv.slice(2);

const listener = (globalThis as unknown as { Bun: Bun }).Bun.listen({
  hostname: "0.0.0.0",
  port: Number(port),
  socket: {
    open(socket) {
      sendfile(socket, file, { onStart: ({ via, reason }) => console.log(via, reason ?? "") })
        .then((sent) => console.log(`${sent} bytes`), (error) => console.error(error.message))
        .then(() => socket.end());
    },
    data() {},
  },
});

console.log(`listening on port ${listener.port}`);
