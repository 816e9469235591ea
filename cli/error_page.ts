import * as fs from "node:fs";
import { quality } from "../http/rfc9110/quality.ts";
import { planFile, REASONS, type RequestHead, type ResponsePlan } from "../http/file_response.ts";
import { isFileBody } from "../http/root/open_file.ts";
import { type Fields, putFields, putTextFields } from "../http/headers.ts";
import { escapeHtml, PAGE_END, pageStart, POLICY } from "../http/html.ts";
import type { ResolvedDirectoryOptions } from "../http/options.ts";
import { openInside } from "../http/root/request_target.ts";

/** The parts of a request that an error page needs. */
type Failed = Pick<RequestHead, "method" | "field"> & { readonly target: string };

/**
 * Turns an error into an HTML page if the client accepts HTML: the site's own `404.html` for a missing file, if there
 * is one; otherwise our page with a link to the start, if `Accept` names HTML. Other clients get the text.
 */
export async function asErrorPage(
  plan: ResponsePlan,
  request: Failed,
  resolved: ResolvedDirectoryOptions,
  root: string,
): Promise<ResponsePlan> {
  const page = (plan.status === 404 ? await sitesPage(request, resolved, root) : undefined) ??
    ourPage(plan, request, resolved);
  const { headers, body } = page ?? plan;
  // A cache may store a 404, and must not serve it to a client that prefers the other format.
  putFields(headers, [["Vary", "Accept"]]);
  return { ...plan, headers, body };
}

/** The root's `404.html`, without ETag and max-age: a missing file may exist a minute later. */
async function sitesPage(
  { method, field }: Failed,
  resolved: ResolvedDirectoryOptions,
  root: string,
): Promise<ResponsePlan | undefined> {
  if (weight(field("accept"), ["text/*", "*/*"]) === 0) return undefined;
  const file = openInside(root, ["404.html"], false, resolved.followSymlinks);
  if (file.kind !== "file") return undefined;
  const plain = {
    ...resolved,
    fields: [],
    encodings: [],
    codingFor: undefined,
    cacheControl: undefined,
    etag: false,
    lastModified: false,
    ranges: false,
  };
  const requestHead = { method, field, preset: () => ({ status: 404, fields: [] }) };
  const plan = await planFile(requestHead, plain, file, () => undefined);
  try {
    putTextFields(plan.headers, resolved.fields, 404);
    return plan;
  } catch (error) {
    if (isFileBody(plan.body)) fs.closeSync(plan.body.file.fd);
    throw error;
  }
}

function ourPage(
  { status, headers }: ResponsePlan,
  { method, field, target }: Failed,
  resolved: ResolvedDirectoryOptions,
): ResponsePlan | undefined {
  const accept = field("accept");
  if (!accept || weight(accept, ["text/*"]) === 0) return undefined;
  const name = `${status} ${REASONS[status]}`;
  const text = `${pageStart(name)}<h1>${escapeHtml(name)}</h1>
<p><a href="${home(target)}">Go to the start</a></p>
${PAGE_END}`;
  const fields: Fields = {
    ...headers,
    "Content-Length": String(text.length),
    "Content-Type": "text/html; charset=utf-8",
  };
  putFields(fields, [["Content-Security-Policy", POLICY]]);
  putTextFields(fields, resolved.fields, status);
  return { status, headers: fields, body: method === "HEAD" ? undefined : text };
}

/** The weight of HTML in `Accept`; without the field HTML is as good as anything. */
function weight(accept: string | undefined | null, wildcards: readonly string[]): number {
  return accept ? quality(accept, "text/html", wildcards) ?? 0 : 1;
}

/** The root, relative to the request's path: a proxy in front may have removed a prefix. */
function home(target: string): string {
  const [path] = target.split(/[?#]/, 1);
  return "../".repeat(Math.max(path.split("/").length - 2, 0)) || "./";
}
