// Files at a rate per user, and so many at a time: deno run -A (or bun) examples/rate_limit.ts [DIR [PORT]]
//
// Then: curl -OH "Authorization: Bearer secret-of-ann" http://127.0.0.1:9000/FILE
import { serveStatic } from "@zerocopy/sendfile/node";
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";

const [directory = ".", port = "9000"] = process.argv.slice(2);
const MIB = 1024 * 1024;

class User {
  readonly serve: ReturnType<typeof serveStatic>;
  readonly downloads: number;
  /** Downloads under way. */
  active = 0;

  /** `rate`: bytes per second of all downloads together; each gets the share that it has when all are under way. */
  constructor(rate: number, downloads: number) {
    this.downloads = downloads;
    this.serve = serveStatic(directory, { rateLimit: rate / downloads });
  }
}

const hash = (token: string) => createHash("sha256").update(token).digest("hex");

/** By the hash of the token: neither this table nor the time that a look-up takes tells a token. */
const users = new Map([
  [hash("secret-of-ann"), new User(4 * MIB, 2)],
  [hash("secret-of-bob"), new User(1 * MIB, 1)],
]);

function userOf({ headers }: IncomingMessage): User | undefined {
  const [, token] = /^Bearer +(\S+)$/i.exec(headers.authorization ?? "") ?? [];
  return token === undefined ? undefined : users.get(hash(token));
}

const server = createServer((request, response) => {
  const user = userOf(request);
  if (!user) {
    response.writeHead(401, { "WWW-Authenticate": "Bearer" }).end("say who you are\n");
  } else if (user.active >= user.downloads) {
    response.writeHead(429, { "Retry-After": "1" }).end(`at most ${user.downloads} downloads at a time\n`);
  } else {
    user.active++;
    response.once("close", () => user.active--); // sent, or the client has left
    // Errors, and files that do not exist, are answered.
    user.serve(request, response);
  }
});
server.listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
});
