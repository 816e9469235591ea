import { type Answer, answerRefusal, type Asked } from "../file_response.ts";
import { readWhole } from "./body.ts";
import { isFileBody, refusal } from "../root/open_file.ts";
import type { Rules } from "../options.ts";

/**
 * The answer with its file's bytes, where they are no more than `limit` and no rate limit spreads them; as it is
 * otherwise. In `scratch`, if there is one, where they are there at once. What cannot be read, or not whole, is an
 * answer of its own: nothing has left yet.
 */
export function loadSmall(
  answer: Answer,
  asked: Asked,
  rules: Rules,
  limit: number,
  scratch?: Uint8Array<ArrayBuffer>,
): Answer | Promise<Answer> {
  const { body } = answer;
  if (!isFileBody(body) || body.length > limit || rules.rateLimit !== undefined) return answer;
  const loaded = (bytes: Uint8Array<ArrayBuffer>): Answer => ({ ...answer, body: bytes });
  const failed = (error: unknown) => answerRefusal(asked, rules, refusal(error));
  try {
    const bytes = readWhole(body, scratch);
    return bytes instanceof Promise ? bytes.then(loaded, failed) : loaded(bytes);
  } catch (error) {
    return failed(error);
  }
}
