import { spawn } from "node:child_process";
import process from "node:process";
import { isDeno } from "../runtime.ts";

/** The command that opens a URL in what the user has chosen for it. */
function commandFor(url: string): [program: string, args: string[]] {
  if (process.platform === "darwin") return ["open", [url]];
  if (process.platform === "win32") return ["cmd", ["/c", "start", "", url]];
  return ["xdg-open", [url]];
}

/** Opens the URL in the user's browser, or says why not: the server goes on either way. */
export function openBrowser(url: string): void {
  const [program, args] = commandFor(url);
  const failed = (reason: string) => console.error(`cannot open a browser: ${reason}`);
  // Deno would ask for it at the terminal, and wait.
  if (isDeno && Deno.permissions.querySync({ name: "run", command: program }).state !== "granted") {
    return failed(`that needs --allow-run=${program}`);
  }
  try {
    const child = spawn(program, args, { stdio: "ignore", detached: true });
    child.once("error", ({ message }) => failed(message));
    child.once("spawn", () => child.unref()); // it may stay open for longer than the server
  } catch (error) {
    failed((error as Error).message);
  }
}
