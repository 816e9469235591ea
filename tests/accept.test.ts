import { assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { answerText } from "../http/answer.ts";
import { directoryRulesOf } from "../http/options.ts";
import { FileServer } from "../server/server.ts";
import { isBun, test } from "./harness.ts";

/** Fewer than a listener's queue holds. */
const RESETS = 100;

test("FileServer answers at once behind connections that were reset before it accepted them", async () => {
  const rules = directoryRulesOf({});
  const errors: unknown[] = [];
  const server = new FileServer({
    rules,
    answer: (request) => answerText(request, rules, 404),
    onError: (error) => errors.push(error),
  });
  const port = server.listen({ host: "127.0.0.1", port: 0, shared: false });
  try {
    // It holds this thread until all are reset: the server accepts none before.
    const script = fromFileUrl(new URL("./child_reset.ts", import.meta.url));
    const args = isBun ? [script] : ["run", "-A", "--no-check", script];
    const { status, stderr } = spawnSync(process.execPath, [...args, `${port}`, `${RESETS}`], {
      encoding: "utf8",
    });
    assertEquals(status, 0, stderr);
    // With a pause of 100 ms for each it took 10 s.
    const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(5000) });
    assertEquals([response.status, await response.text()], [404, "404 Not Found\n"]);
    assertEquals(errors, []);
  } finally {
    server.close();
  }
});
