/** Flags as variables of the environment. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Failure, FLAGS, parseCommand } from "../../cli/arguments.ts";
import { parseWithEnvironment, VARIABLES } from "../../cli/environment.ts";
import { test } from "../support/harness.ts";
import { ask } from "../support/http_client.ts";
import { Server, serving } from "../support/site.ts";

function parse(variables: Record<string, string>, ...args: string[]) {
  return parseWithEnvironment(args, (name) => variables[name]);
}

test("parseWithEnvironment takes a variable for each flag but those that print and end", () => {
  assertEquals(VARIABLES.size, Object.keys(FLAGS).length - 2);
  assertEquals(VARIABLES.get("max-age"), "SENDFILE_MAX_AGE");
  for (const variable of VARIABLES.values()) assert(/^SENDFILE_[A-Z_]+$/.test(variable), variable);
  assertEquals(
    parse({ SENDFILE_MAX_AGE: "60", SENDFILE_CORS: "true", SENDFILE_SPA: "0", SENDFILE_HOST: "" }, "dir"),
    parseCommand(["--max-age=60", "--cors", "dir"]),
  );
  assertEquals(parse({ SENDFILE_HEADER: "A: 1\nB: 2=3\n" }).headers, ["A: 1", "B: 2=3"]);
  assertEquals(parse({ SENDFILE_AUTH: "--x:-y z" }).auth, "--x:-y z");
});

test("parseWithEnvironment lets a flag win over its variable, and header fields of both stay", () => {
  assertEquals(parse({ SENDFILE_PORT: "1" }, "--port", "2").port, 2);
  assertEquals(parse({ SENDFILE_HEADER: "A: 1" }, "-H", "B: 2").headers, ["A: 1", "B: 2"]);
});

test("parseWithEnvironment says which variables are to blame", () => {
  const message = (body: () => unknown) => assertThrows(body, Failure).message;
  // What Kubernetes sets for a service named "sendfile".
  assertEquals(
    message(() => parse({ SENDFILE_PORT: "tcp://10.0.0.1:80" })),
    '--port must be a number from 0 to 65535, not "tcp://10.0.0.1:80" (set by the environment: SENDFILE_PORT)',
  );
  assertEquals(message(() => parse({ SENDFILE_CORS: "maybe" })), 'SENDFILE_CORS must be 1 or 0, not "maybe"');
  assertEquals(
    message(() => parse({ SENDFILE_PORT: "1" }, "--workers", "x")),
    '--workers must be a number from 1 to 256, not "x"',
  );
});

test("serve takes its flags from the environment, its workers too", () =>
  serving(async ({ port }) => {
    const { headers } = await ask(port, "/1.bin");
    assertEquals(headers["cache-control"], "public, max-age=60");
    assertEquals(headers["x-one"], "1");
  }, { env: { SENDFILE_MAX_AGE: "60", SENDFILE_HEADER: "X-One: 1", SENDFILE_WORKERS: "2" } }));

test("serve gives its workers the permission to read those variables", () =>
  serving(async ({ port }) => {
    assertEquals((await ask(port, "/1.bin")).headers["cache-control"], "public, max-age=60");
  }, {
    env: { SENDFILE_MAX_AGE: "60", SENDFILE_WORKERS: "2" },
    permissions: ["--no-prompt", "--allow-net", "--allow-read", "--allow-env", "--allow-run"],
  }), { only: "deno" });

test("serve reads no environment variable without permission, and never prompts", async () => {
  const server = new Server({
    args: ["-p", "0", "--host", "127.0.0.1", import.meta.dirname!],
    env: { SENDFILE_MAX_AGE: "60" },
    permissions: ["--allow-net", "--allow-read"],
  });
  try {
    await server.listening();
    assertEquals((await ask(server.port, "/auth.test.ts")).headers["cache-control"], undefined);
    assertEquals(server.errors, "");
  } finally {
    await server.stop();
  }
}, { only: "deno" });
