import { planFailure, type RequestHead, type ResponsePlan } from "../file_response.ts";
import { readWhole } from "./body.ts";
import { failure, isFileBody } from "../root/open_file.ts";
import type { ResolvedOptions } from "../options.ts";

/**
 * The answer with its file's bytes, where they are no more than `limit` and no rate limit spreads them; as it is
 * otherwise. In `scratch`, if there is one, where they are there at once. What cannot be read, or not whole, is an
 * answer of its own: nothing has left yet.
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
