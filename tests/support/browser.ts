/** Headless chromium, driven by its DevTools protocol: `--window-size` makes no page narrower than 500 pixels. */
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "@std/path";
import { DEADLINE } from "./http_client.ts";

interface Message {
  readonly id?: number;
  readonly sessionId?: string;
  readonly method?: string;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

interface Screen {
  readonly width: number;
  readonly height: number;
  readonly scheme?: "light" | "dark";
  /** Whether pages may run scripts. @default true */
  readonly scripts?: boolean;
  /** The name of the zone that pages see. @default that of this machine */
  readonly zone?: string;
}

/** A page of a browser of its own. */
export class Browser {
  readonly #child: ChildProcess;
  readonly #profile: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (message: Message) => void>();
  readonly #events: string[] = [];
  #wake = () => {};
  #session: string | undefined;
  #id = 0;

  private constructor(child: ChildProcess, profile: string, socket: WebSocket) {
    this.#child = child;
    this.#profile = profile;
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(String(data)) as Message;
      if (message.id !== undefined) this.#waiting.get(message.id)?.(message);
      else if (message.method !== undefined) this.#events.push(message.method);
      this.#wake();
    });
  }

  static async start(): Promise<Browser> {
    const profile = fs.mkdtempSync(join(tmpdir(), "profile-"));
    const child = spawn("chromium", [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--no-first-run",
      "--no-proxy-server",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--hide-scrollbars",
      `--user-data-dir=${profile}`,
      "--remote-debugging-port=0",
      "about:blank",
    ], { stdio: ["ignore", "ignore", "pipe"] });
    const address = await within(
      new Promise<string>((resolve, reject) => {
        let text = "";
        child.once("error", reject);
        child.stderr!.on("data", (bytes) => {
          const [, found] = /DevTools listening on (\S+)/.exec(text += bytes) ?? [];
          if (found) resolve(found);
        });
      }),
      "chromium to start",
    );
    const socket = new WebSocket(address);
    await within(new Promise((resolve) => socket.addEventListener("open", resolve)), "its socket");
    const browser = new Browser(child, profile, socket);
    const { targetId } = await browser.#call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await browser.#call("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = sessionId as string;
    await browser.#call("Page.enable");
    return browser;
  }

  async #call(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.#id;
    const answered = new Promise<Message>((resolve) => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method, params, sessionId: this.#session }));
    const { result, error } = await within(answered, method);
    this.#waiting.delete(id);
    if (error) throw new Error(`${method}: ${error.message}`);
    return result!;
  }

  async show({ width, height, scheme = "light", scripts = true, zone }: Screen): Promise<void> {
    await this.#call("Emulation.setDeviceMetricsOverride", {
      width,
      height,
      deviceScaleFactor: 1,
      mobile: width < 600,
    });
    const features = [{ name: "prefers-color-scheme", value: scheme }];
    await this.#call("Emulation.setEmulatedMedia", { features });
    await this.#call("Emulation.setScriptExecutionDisabled", { value: !scripts });
    if (zone) await this.#call("Emulation.setTimezoneOverride", { timezoneId: zone });
  }

  /** Goes to a page and waits until it has loaded. */
  async open(url: string): Promise<void> {
    this.#events.length = 0;
    await this.#call("Page.navigate", { url });
    await this.loaded();
  }

  /** Waits for the load of a page since the last call of {@link open}, or since the last load that was waited for. */
  async loaded(): Promise<void> {
    while (true) {
      const at = this.#events.indexOf("Page.loadEventFired");
      if (at >= 0) return void this.#events.splice(0, at + 1);
      await within(new Promise<void>((resolve) => this.#wake = resolve), "a page to load");
    }
  }

  /** The value of an expression in the page. */
  async value<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.#call("Runtime.evaluate", {
      expression,
      returnByValue: true,
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return (result as { value: T }).value;
  }

  /** A picture of what is seen, as PNG. */
  async picture(): Promise<Buffer> {
    const { data } = await this.#call("Page.captureScreenshot", { format: "png" });
    return Buffer.from(data as string, "base64");
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#socket.close();
    this.#child.kill("SIGKILL");
    await ended;
    // Its other processes may still write for a moment.
    fs.rmSync(this.#profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

async function within<T>(work: Promise<T>, what: string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), DEADLINE);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
