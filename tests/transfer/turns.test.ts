/** Whatever goes on for long lets others run: sockets and timers have their time beside it. */
import { assert, assertEquals } from "@std/assert";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import process from "node:process";
import { fromFileUrl, join } from "@std/path";
import { isTurnDue, spend, turn } from "../../transfer/budget.ts";
import { sendfile, type SendfileOptions, type SendfileSocket, sendfileStats } from "../../mod.ts";
import { libc as loadLibc, replaceLibc } from "../../ffi/load.ts";
import { nextRound, yieldToEventLoop } from "../../runtime.ts";
import { FileServer } from "../../server/server.ts";
import { siteOf } from "../../cli/handler.ts";
import { parseCommand } from "../../cli/arguments.ts";
import { assertBytes, bytes, folder, testFile } from "../support/data.ts";
import { isBun, test } from "../support/harness.ts";
import { faulty } from "../support/faults.ts";
import { onlyBy, readInChild, socketPair } from "../support/helpers.ts";

const here = (path: string) => fromFileUrl(new URL(path, import.meta.url));

/** Clients that run until the test ends. */
function clients(...args: (string | number)[]): AsyncDisposable {
  const script = [here("../children/clients.ts"), ...args.map(String)];
  const child: ChildProcess = spawn(
    process.execPath,
    isBun ? script : ["run", "-A", "--no-check", ...script],
    { stdio: "ignore" },
  );
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

/** Round trips of one byte over loopback; what `count` has counted during each. */
async function roundTrips(times: number, count: () => number): Promise<number[]> {
  const server = net.createServer((socket) => void socket.pipe(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
  socket.setNoDelay(true);
  const counts: number[] = [];
  for (let i = 0; i < times; i++) {
    const before = count();
    const answered = new Promise((resolve) => socket.once("data", resolve));
    socket.write("x");
    await answered;
    counts.push(count() - before);
  }
  socket.destroy();
  await new Promise((resolve) => server.close(resolve));
  return counts;
}

test("yieldToEventLoop: a socket is answered beside two tasks that always have work", async () => {
  let turns = 0;
  let done = false;
  const task = async () => {
    while (!done) {
      const end = performance.now() + 1;
      while (performance.now() < end);
      turns++;
      await yieldToEventLoop();
    }
  };
  const tasks = [task(), task()];
  const counts = await roundTrips(15, () => turns);
  done = true;
  await Promise.all(tasks);
  // Of 1 ms each. With an immediate for each yield there are 240 on Deno.
  assert(median(counts) <= 60, `turns of the tasks during a round trip: ${counts}`);
});

test("yieldToEventLoop: all that yield meanwhile go on in the same turn", async () => {
  const order: string[] = [];
  let rounds = 0;
  let done = false;
  const counting = (async () => {
    while (!done) {
      await nextRound();
      rounds++;
    }
  })();
  await nextRound();
  const at: number[] = [];
  const yielder = async (name: string) => {
    await yieldToEventLoop();
    order.push(name);
    at.push(rounds);
  };
  await Promise.all(["a", "b", "c"].map(yielder));
  done = true;
  await counting;
  assert(order.join() === "a,b,c", order.join());
  assert(new Set(at).size === 1, `${at}`);
});

test("turn: who always has more to send does not go before those that wait", async () => {
  const taken = [0, 0, 0, 0, 0, 0];
  const task = async (i: number) => {
    while (taken.reduce((a, b) => a + b) < 60) {
      if (isTurnDue()) await turn();
      const end = performance.now() + 1;
      while (performance.now() < end);
      spend(1024 * 1024);
      taken[i]++;
      if (!isTurnDue()) await undefined;
    }
  };
  await Promise.all(taken.map((_, i) => task(i)));
  assert(Math.min(...taken) >= 5, `steps of each: ${taken}`);
});

test("turn: nobody is forgotten who asks while the last one woken has taken all the time", async () => {
  const takeAll = () => {
    const end = performance.now() + 5;
    while (performance.now() < end);
    spend(1024 * 1024);
  };
  await turn();
  takeAll();
  await nextRound();
  const asked = Promise.all(Array.from({ length: 4 }, () => turn().then(takeAll))).then(() => true);
  const late = new Promise((resolve) => setTimeout(resolve, 5000, false));
  assertEquals(await Promise.race([asked, late]), true);
});

/** One transfer after the other, each awaited, until an interval of 10 ms has fired five times, or for three seconds. */
async function sendUntilTimersFire(
  send: () => Promise<number>,
): Promise<{ fired: number; transfers: number }> {
  let fired = 0;
  let transfers = 0;
  const interval = setInterval(() => fired++, 10);
  const deadline = performance.now() + 3000;
  while (fired < 5 && performance.now() < deadline) {
    await send();
    transfers++;
  }
  clearInterval(interval);
  return { fired, transfers };
}

/** A socket of the runtime's own whose peer is a process that reads fast. */
async function ownSocket(): Promise<{ socket: SendfileSocket } & AsyncDisposable> {
  const { promise, resolve } = Promise.withResolvers<SendfileSocket>();
  let port: number;
  let close: () => void;
  if (isBun) {
    interface BunListener {
      listen(options: unknown): { port: number; stop(closeAll: boolean): void };
    }
    const { Bun } = globalThis as unknown as { Bun: BunListener };
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { open: resolve, data() {} } });
    port = listener.port;
    close = () => listener.stop(true);
  } else {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    port = listener.addr.port;
    listener.accept().then(resolve);
    close = () => listener.close();
  }
  const peer = clients(port, 1);
  const socket = await promise;
  return {
    socket,
    async [Symbol.asyncDispose]() {
      if (!isBun) (socket as Deno.Conn).close();
      close();
      await peer[Symbol.asyncDispose]();
    },
  };
}

/** So small that the peer keeps up, and the transfers need never wait for it. */
const SMALL = 256;

for (
  const [name, options] of [["by sendfile(2)", {}], ["by copying", { zeroCopy: false }]] as [
    string,
    SendfileOptions,
  ][]
) {
  test(`small transfers awaited in a row, ${name}: timers fire beside them`, async () => {
    using file = testFile(bytes(SMALL));
    const fd = fs.openSync(file.path, "r");
    await using own = await ownSocket();
    const { fired, transfers } = await onlyBy(
      options.zeroCopy === false ? "copy" : "sendfile",
      () => sendUntilTimersFire(() => sendfile(own.socket, fd, { ...options, count: SMALL })),
    );
    fs.closeSync(fd);
    assert(fired >= 5, `fired ${fired} times beside ${transfers} transfers`);
  });
}

test("small transfers awaited in a row over a node socket: timers fire, and the bytes are right", async () => {
  const content = bytes(SMALL);
  using file = testFile(content);
  const fd = fs.openSync(file.path, "r");
  await using child = await readInChild();
  const { fired, transfers } = await sendUntilTimersFire(() => sendfile(child.socket, fd, { count: SMALL }));
  fs.closeSync(fd);
  assert(fired >= 5, `fired ${fired} times beside ${transfers} transfers`);
  const received = await child.received();
  const expected = new Uint8Array(SMALL * transfers);
  for (let i = 0; i < transfers; i++) expected.set(content, i * SMALL);
  assertBytes(received, expected);
});

test("a transfer whose peer takes all at once: timers fire beside it", async () => {
  const size = 2 ** 36;
  using pair = socketPair();
  using file = testFile(bytes(1));
  fs.truncateSync(file.path, size);
  const libc = faulty({});
  libc.sendfile = (_out, _file, _offset, count) => count;
  Object.defineProperty(libc, "tellsCached", { value: false }); // nothing is read of the file
  const previous = loadLibc();
  replaceLibc(libc);
  let fired = 0;
  const timer = setInterval(() => fired++, 1);
  try {
    assertEquals(await sendfile(pair.here, file.path), size);
  } finally {
    clearInterval(timer);
    replaceLibc(previous);
  }
  assert(fired >= 5, `fired ${fired} times`);
});

test("eight transfers at full speed: a socket is answered beside them", async () => {
  const dir = folder();
  const path = join(dir, "large");
  fs.writeFileSync(path, "");
  fs.truncateSync(path, 2 ** 40); // without an end that the test could reach
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = new AbortController();
  const transfers: Promise<unknown>[] = [];
  server.on("connection", (socket) => {
    socket.on("error", () => {});
    transfers.push(sendfile(socket, path, { signal: stop.signal }).catch(() => socket.destroy()));
  });
  const moved = () => sendfileStats().sendfile.bytes / 2 ** 20;
  const { port } = server.address() as net.AddressInfo;
  const peers = Array.from({ length: 4 }, () => clients(port, 2));
  while (transfers.length < 8 || moved() < 500) await new Promise((resolve) => setTimeout(resolve, 5));
  const counts = await roundTrips(100, moved);
  stop.abort();
  await Promise.all(transfers);
  for (const peer of peers) await peer[Symbol.asyncDispose]();
  await new Promise((resolve) => server.close(resolve));
  fs.rmSync(dir, { recursive: true });
  const shown = counts.map((count) => count.toFixed());
  assert(median(counts) <= 24, `MiB sent during a round trip: ${shown}`);
});

test("clients that pipeline without end: the static server answers another beside them", async () => {
  const dir = folder();
  fs.writeFileSync(join(dir, "small"), bytes(100));
  const site = siteOf(dir, parseCommand(["--log", "none"]));
  let answered = 0;
  const server = new FileServer({ ...site, onSent: () => answered++ });
  const port = server.listen({ host: "127.0.0.1", port: 0, shared: false });
  const counts: number[] = [];
  {
    await using _clients = clients(port, 2, "/small");
    while (answered < 1000) await new Promise((resolve) => setTimeout(resolve, 5));
    const socket = net.connect(port, "127.0.0.1");
    for (let i = 0; i < 20; i++) {
      const before = answered;
      const response = new Promise<void>((resolve) => {
        let length = 0;
        const onData = (chunk: Uint8Array) => {
          length += chunk.length;
          if (length <= 100) return; // the head is longer than nothing
          socket.off("data", onData);
          resolve();
        };
        socket.on("data", onData);
      });
      socket.write("GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
      await response;
      counts.push(answered - before);
    }
    socket.destroy();
  }
  server.close();
  fs.rmSync(dir, { recursive: true });
  // With an immediate behind each 32 requests of a connection there were some thousands on Deno.
  assert(median(counts) <= 1000, `responses to others before one's own: ${counts}`);
});
