// Sends a file to whoever connects: deno run -A examples/tcp_deno.ts FILE, then: nc localhost 9000 > copy
import { sendfile } from "@zerocopy/sendfile";

const [file] = Deno.args;

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

for await (const conn of Deno.listen({ port: 9000 })) send(conn);
