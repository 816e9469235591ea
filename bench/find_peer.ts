/**
 * The cost for `withSendfile` of finding a request's connection among the process's descriptors, with CONNECTIONS
 * accepted connections of which the last one is searched for.
 *
 *   deno task bench:find [CONNECTIONS ...]
 *
 * Prints the median time of 200 searches in microseconds. The limit of open files must be above the number of
 * connections.
 */
import { findPeer } from "../ffi/find.ts";
import { libc } from "../ffi/load.ts";
import { median } from "./numbers.ts";

/** The number of searches for the median. */
const SEARCHES = 200;

const HOLD = `
  const [port, count] = Deno.args.map(Number);
  for (let i = 0; i < count; i++) await Deno.connect({ hostname: "127.0.0.1", port });
  await new Promise((resolve) => Deno.addSignalListener("SIGTERM", resolve));
`;

async function measure(count: number): Promise<void> {
  const c = libc();
  if (typeof c === "string") throw new Error(c);
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  // The clients run in another process: otherwise their sockets would be descriptors of this one.
  const script = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(script, HOLD);
  const holder = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-config", script, `${listener.addr.port}`, `${count}`],
  }).spawn();
  const conns: Deno.Conn[] = [];
  try {
    while (conns.length < count) conns.push(await listener.accept());
    const { hostname, port } = conns.at(-1)!.remoteAddr as Deno.NetAddr;
    const times = Array.from({ length: SEARCHES }, () => {
      const remote = c.parseEndpoint(hostname, port)!;
      const began = performance.now();
      const found = findPeer(c, remote, Infinity);
      const took = performance.now() - began;
      if (typeof found !== "number") throw new Error(found);
      return took * 1000;
    });
    const limit = c.descriptorLimit();
    console.log(`${count} connections (FDSize ${limit}): ${median(times).toFixed(0)} µs`);
  } finally {
    for (const conn of conns) conn.close();
    holder.kill();
    await holder.status;
    await Deno.remove(script);
  }
}

const counts = Deno.args.length > 0 ? Deno.args.map(Number) : [10, 1000, 10_000];
for (const count of counts) await measure(count);
