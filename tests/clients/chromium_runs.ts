/** Runs headless chromium, and scripts in its pages. */
import { join } from "@std/path";
import * as fs from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Server, Site } from "../support/site.ts";
import { output, urlOf } from "./programs.ts";

/** Runs headless chromium, with a fresh profile. */
export function chromium({ base }: Site, ...args: string[]): Promise<string> {
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
  flags.push(
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
  );
  flags.push("--autoplay-policy=no-user-gesture-required", "--no-proxy-server", "--timeout=30000");
  flags.push(`--user-data-dir=${fs.mkdtempSync(join(base, "profile-"))}`);
  return output(base, "chromium", [...flags, ...args]);
}

/** A server that answers nothing before somebody has asked for its `/done`. */
async function withGate<T>(body: (origin: string) => Promise<T>): Promise<T> {
  const held: ServerResponse[] = [];
  let open = false;
  const gate = createServer(({ url }, response) => {
    held.push(response);
    open ||= url === "/done";
    if (open) { for (const response of held.splice(0)) response.end(); }
  });
  gate.listen(0, "127.0.0.1");
  await new Promise((resolve) => gate.once("listening", resolve));
  try {
    return await body(`http://127.0.0.1:${(gate.address() as AddressInfo).port}`);
  } finally {
    gate.closeAllConnections();
    gate.close();
  }
}

/**
 * What `script`, the body of an async function in a page of the site, returns in headless chromium.
 * --dump-dom waits for the page's load event, and that for the gate.
 */
export function inChromium(server: Server, site: Site, script: string): Promise<string> {
  return withGate(async (gate) => {
    site.add(
      "page/index.html",
      `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<p>not yet</p><script async src="${gate}/held"></script>
<script>
  (async () => {${script}})().catch((error) => "failed: " + error).then((text) => {
    document.querySelector("p").textContent = text;
    return fetch("${gate}/done", { mode: "no-cors" });
  });
</script>`,
    );
    const dom = await chromium(site, "--dump-dom", urlOf(server, "/page/"));
    return unescaped(/<p>(.*?)<\/p>/s.exec(dom)?.[1] ?? `no paragraph in ${dom}`);
  });
}

/** Text from the serialized DOM. */
export function unescaped(html: string): string {
  const characters: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', nbsp: "\u{a0}" };
  return html.replace(/&(amp|lt|gt|quot|nbsp);/g, (_, name) => characters[name]);
}
