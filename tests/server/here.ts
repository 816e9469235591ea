/** Where the tests of `serve` listen, and the simplest handler. */
import type { ServeHandler } from "../../serve.ts";

export const HERE = { hostname: "127.0.0.1", port: 0, onListen() {} };
export const hello: ServeHandler = () => new Response("hello");

export async function get(port: number, path = "/"): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return `${response.status} ${await response.text()}`;
}
