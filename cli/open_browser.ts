import { spawn } from "node:child_process";
import process from "node:process";
import { isGranted } from "../runtime.ts";

/** The system's command that opens a URL in the user's browser. */
function commandFor(url: string): [program: string, args: string[]] {
  if (process.platform === "darwin") return ["open", [url]];
  if (process.platform === "win32") return ["cmd", ["/c", "start", "", url]];
  return ["xdg-open", [url]];
}

/** Opens the URL in the user's browser. If that fails it prints why, and the server continues. */
export function openBrowser(url: string): void {
  const [program, args] = commandFor(url);
  const failed = (reason: string) => console.error(`cannot open a browser: ${reason}`);
  // Deno would prompt at the terminal and wait.
  if (!isGranted({ name: "run", command: program })) return failed(`that needs --allow-run=${program}`);
  try {
    const child = spawn(program, args, { stdio: "ignore", detached: true });
    child.once("error", ({ message }) => failed(message));
    child.once("spawn", () => child.unref()); // the browser may run longer than the server
  } catch (error) {
    failed((error as Error).message);
  }
}
