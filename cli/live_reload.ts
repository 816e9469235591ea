import { Buffer } from "node:buffer";
import { quality } from "../http/rfc9110/quality.ts";
import { planFailure, type RequestHead, type ResponsePlan } from "../http/file_response.ts";
import { dropFields, type Fields, valueOf } from "../http/headers.ts";
import { POLICY } from "../http/html.ts";
import { LISTING_POLICY } from "../http/listing_page.ts";
import type { ResolvedOptions } from "../http/options.ts";
import { failure, isFileBody } from "../http/root/open_file.ts";
import { readWhole } from "../http/send/body.ts";
import type { Changes } from "./changes.ts";

const SCRIPT_PATH = "/.sendfile-reload.js";
const EVENTS_PATH = "/.sendfile-reload";

/** The script is a separate file, not inline: the site's own content security policy may forbid inline scripts. */
const SCRIPT = `{
  const { since } = document.currentScript.dataset;
  const events = new EventSource("${EVENTS_PATH}?since=" + since);
  events.addEventListener("change", () => {
    events.close();
    location.reload();
  });
}
`;

/** Milliseconds after which a page without an event asks again. */
const HELD = 20_000;

/** The largest page in bytes that we read whole to insert the script. */
const MOST = 8 * 1024 * 1024;

/** Reloads pages when a file changes, by a script in each page that waits for an event. */
export class LiveReload {
  readonly #changes: Changes;

  constructor(changes: Changes) {
    this.#changes = changes;
  }

  /** Whether a request is for the script or its events. */
  isOwn(target: string): boolean {
    const [path] = target.split("?", 1);
    return path === SCRIPT_PATH || path === EVENTS_PATH;
  }

  /** The response to such a request. */
  async plan({ method, target, field }: RequestHead & { readonly target: string }): Promise<ResponsePlan> {
    const isScript = target.split("?", 1)[0] === SCRIPT_PATH;
    const body = isScript ? SCRIPT : await this.#event(target, field("last-event-id"));
    const headers: Fields = {
      "Cache-Control": "no-store",
      "Content-Length": String(body.length),
      "Content-Type": `text/${isScript ? "javascript" : "event-stream"}; charset=utf-8`,
    };
    return { status: 200, headers, body: method === "HEAD" ? undefined : body };
  }

  /** One event or none, then the response ends. The browser asks again and sends the id of its last event. */
  async #event(target: string, last: string | null | undefined): Promise<string> {
    const since = Number(last || new URLSearchParams(target.split("?")[1]).get("since")) || Date.now();
    const asked = Date.now();
    const changed = await this.#changes.since(since, HELD);
    return `retry: 100\nid: ${asked}\n${changed ? "event: change\ndata:\n" : ""}\n`;
  }

  /** Removes the fields of a request for a page that could lead to a partial or empty response. */
  withoutParts<T extends RequestHead>(request: T): T {
    const accept = request.field("accept");
    if (!accept || (quality(accept, "text/html", ["text/*"]) ?? 0) === 0) return request;
    return {
      ...request,
      field: (name: string) => /^(?:range|if-)/.test(name) ? undefined : request.field(name),
    };
  }

  /** Inserts the script if the plan is for a whole page; otherwise returns the plan unchanged. */
  async inject(plan: ResponsePlan, request: RequestHead, resolved: ResolvedOptions): Promise<ResponsePlan> {
    const { headers, body } = plan;
    const isPage = /^text\/html\b/i.test(valueOf(headers, "Content-Type") ?? "") &&
      valueOf(headers, "Content-Encoding") === undefined && plan.status !== 206;
    if (!isPage || (isFileBody(body) && body.length > MOST)) return plan;
    const since = Date.now(); // before the page is read
    const tag = `<script src="${SCRIPT_PATH}" data-since="${since}"></script>\n`;
    const fields = dropFields(
      headers,
      (name) => /^(?:etag|last-modified|accept-ranges|cache-control)$/i.test(name),
    );
    fields["Cache-Control"] = "no-store";
    allowScript(fields);
    const length = Number(valueOf(headers, "Content-Length"));
    // A HEAD request has no body; only the length grows by the script.
    fields["Content-Length"] = String(length + tag.length);
    if (body === undefined) return { ...plan, headers: fields };
    try {
      const page = isFileBody(body)
        ? await readWhole(body)
        : Buffer.from(body as string | Uint8Array<ArrayBuffer>);
      return {
        ...plan,
        headers: fields,
        body: insert(Buffer.from(page.buffer, page.byteOffset, page.length), tag),
      };
    } catch (error) {
      return planFailure(request, resolved, failure(error));
    }
  }
}

/** Inserts the tag before the end of the body element, or at the end of the page. */
function insert(page: Buffer<ArrayBuffer>, tag: string): Buffer<ArrayBuffer> {
  const [end] = [...page.toString("latin1").matchAll(/<\/body\s*>/gi)].slice(-1);
  const at = end?.index ?? page.length;
  return Buffer.concat([page.subarray(0, at), Buffer.from(tag), page.subarray(at)]);
}

/** The policy of our own pages forbids other scripts, so add ours. */
function allowScript(fields: Fields): void {
  const own = fields["Content-Security-Policy"];
  if (own === POLICY) fields["Content-Security-Policy"] = `${POLICY}; script-src 'self'; connect-src 'self'`;
  if (own === LISTING_POLICY) {
    fields["Content-Security-Policy"] = `${LISTING_POLICY} 'self'; connect-src 'self'`;
  }
}
