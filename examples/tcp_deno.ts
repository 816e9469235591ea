// Sends a file to whoever connects: deno run -A examples/tcp_deno.ts FILE [PORT], then: nc localhost 9000 > copy
import { sendfile } from "@zerocopy/sendfile";

const [file, port = "9000"] = Deno.args;

async function send(conn: Deno.Conn): Promise<void> {
  try {
    const sent = await sendfile(conn, file, { onStart: ({ via, reason }) => console.log(via, reason ?? "") });
    console.log(`${sent} bytes`);
  } catch (error) {
    console.error((error as Error).message); // the client left, or there is no such file
  } finally {
    conn.close();
  }
}

const listener = Deno.listen({ port: Number(port) });
console.log(`listening on port ${listener.addr.port}`);
while (true) {
  try {
    send(await listener.accept());
  } catch (error) {
    // NotConnected: a client reset its connection before it was accepted, which would end a `for await` loop.
    if (error instanceof Deno.errors.BadResource) break; // the listener is closed
    if (!(error instanceof Deno.errors.NotConnected)) { // out of descriptors: accept fails until one is free
      console.error((error as Error).message);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
