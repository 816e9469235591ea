import { planFailure, type RequestHead, type ResponsePlan } from "../file_response.ts";
import { readWhole } from "./body.ts";
import { failure, isFileBody } from "../root/open_file.ts";
import type { ResolvedOptions } from "../options.ts";

/**
 * Replaces the file of a response plan by its bytes, if they are at most `limit` and there is no rate limit;
 * otherwise returns the plan unchanged. The bytes are in `scratch` (if given) when they could be read at once. If the
 * file cannot be read completely, returns a plan for an error response: nothing has been sent yet.
 */
export function loadSmall(
  plan: ResponsePlan,
  requestHead: RequestHead,
  resolved: ResolvedOptions,
  limit: number,
  scratch?: Uint8Array<ArrayBuffer>,
): ResponsePlan | Promise<ResponsePlan> {
  const { body } = plan;
  if (!isFileBody(body) || body.length > limit || resolved.rateLimit !== undefined) return plan;
  const loaded = (bytes: Uint8Array<ArrayBuffer>): ResponsePlan => ({ ...plan, body: bytes });
  const failed = (error: unknown) => planFailure(requestHead, resolved, failure(error));
  try {
    const bytes = readWhole(body, scratch);
    return bytes instanceof Promise ? bytes.then(loaded, failed) : loaded(bytes);
  } catch (error) {
    return failed(error);
  }
}
