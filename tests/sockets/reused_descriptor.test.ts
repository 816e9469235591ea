/** A closed socket's number belongs to another connection now, which must get no byte of the old one's file. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as net from "node:net";
import type { Libc } from "../../ffi/libc.ts";
import { libc as loadLibc } from "../../ffi/load.ts";
import { ConnectionClosedError, sendfile } from "../../mod.ts";
import { bytes, DATA, descriptors, testFile, until } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { descriptorOf, kinds, raw } from "../support/pairs.ts";
import { descriptor, nodeHttp } from "../support/pairs_node.ts";
import { closeHere } from "./close_here.ts";

test("a descriptor that was closed and handed out again gets no byte of another's file", async () => {
  using file = testFile(bytes(16 * 1024 * 1024));
  const F_DUPFD = 0;
  const libc = loadLibc() as Libc;
  let reused = 0;
  for (let round = 0; round < 20; round++) {
    const first = await raw.open({ small: true });
    const number = descriptorOf(first);
    const strangers = await Promise.all([raw.open(), raw.open(), raw.open()]);
    const stop = new AbortController();
    let sent = 0;
    const vias: unknown[] = [];
    const sending = sendfile(first.socket, file.file, {
      signal: stop.signal,
      onStart: ({ via }) => vias.push(via),
      onProgress: (n) => sent = n,
    });
    await until("the first transfer is under way", () => sent > 0);
    first.close();
    // A stranger's connection takes the number, which is free now.
    const taken = libc.system.fcntl(libc.library, descriptorOf(strangers[0]), F_DUPFD, number);
    if (taken === number) reused++; // or a thread of the runtime's was faster
    // The old object must not lead to the new connection either.
    const again = sendfile(first.socket, file.file).catch((error) => error);
    stop.abort();
    await assertRejects(() => sending);
    assertEquals(vias, ["sendfile"]);
    assert(await again instanceof ConnectionClosedError);
    libc.close(taken);
    for (const stranger of strangers) {
      await stranger.write(new TextEncoder().encode("hello"));
      stranger.end();
      assertEquals(new TextDecoder().decode(await stranger.peer.all()), "hello");
      stranger.close();
    }
  }
  assert(reused > 0, "no number was taken");
});

for (const underWay of [false, true]) {
  const when = underWay ? ", in the middle of a transfer" : "";
  test(`a closed socket never leads to the connection that has its descriptor's number now${when}`, async () => {
    using file = testFile(DATA);
    const strangers = await Strangers.listen();
    for (const kind of kinds.filter((kind) => kind.native && kind !== descriptor && kind !== nodeHttp)) {
      const pair = await kind.open();
      try {
        let sent = 0;
        const sending = underWay
          ? sendfile(pair.socket, file.path, { rateLimit: 10_000, onProgress: (bytes) => sent = bytes })
          : sendfile(pair.socket, file.path, { count: 1000, onProgress: (bytes) => sent = bytes });
        const outcome = sending.catch((error) => error);
        await until("something was sent", () => sent > 0);
        await strangers.take(() => closeHere(pair));
        const error = await (underWay ? outcome : assertRejects(() => sendfile(pair.socket, file.path)));
        assert(error instanceof ConnectionClosedError, `${kind.name}: ${error}`);
        await strangers.assertUntouched(kind.name);
      } finally {
        pair.close();
        strangers.leave();
      }
    }
    strangers.close();
  });
}

/** Connections that get the numbers of descriptors that others have closed. */
class Strangers {
  readonly #server: net.Server;
  #sockets: net.Socket[] = [];
  #received = 0;

  constructor(server: net.Server) {
    this.#server = server.on("connection", (socket) => this.#meet(socket));
  }

  static async listen(): Promise<Strangers> {
    const server = net.createServer();
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return new Strangers(server);
  }

  #meet(socket: net.Socket): void {
    this.#sockets.push(socket.on("data", (data) => this.#received += data.length));
  }

  /** Connects until all numbers are taken that `close` has made free. */
  async take(close: () => void): Promise<void> {
    const before = descriptors();
    close();
    await until("a descriptor is closed", () => descriptors().length < before.length);
    const left = new Set(descriptors());
    const numbers = before.filter((text) => !left.has(text)).map((text) => `${text.split(" ")[0]} `);
    const { port } = this.#server.address() as net.AddressInfo;
    for (let i = 0; i < 20; i++) {
      await new Promise<void>((done) => this.#meet(net.connect(port, "127.0.0.1", done)));
    }
    await until("all are accepted", () => this.#sockets.length === 40);
    const now = descriptors();
    assert(numbers.every((number) => now.some((text) => text.startsWith(number))), `${numbers}: ${now}`);
  }

  /** That each receives what the other end of its connection sends, and nothing else. */
  async assertUntouched(name: string): Promise<void> {
    await Promise.all(this.#sockets.map((socket) => new Promise((done) => socket.write("!", done))));
    await until("each has its own byte", () => this.#received >= this.#sockets.length);
    assertEquals(this.#received, this.#sockets.length, `${name}: a stranger has received more`);
  }

  leave(): void {
    this.#sockets.forEach((socket) => socket.destroy());
    this.#sockets = [];
    this.#received = 0;
  }

  close(): void {
    this.#server.close();
  }
}
