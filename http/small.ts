import { type Answer, answerRefusal, type Asked } from "./answer.ts";
import { readWhole } from "./body.ts";
import { isFileBody, refusal } from "./file.ts";
import type { Rules } from "./options.ts";

/**
 * The answer with its file's bytes in `buffer`, where they are no more than `limit` and no rate limit spreads them; as
 * it is otherwise. What cannot be read, or not whole, is an answer of its own: nothing has left yet.
 */
export function loadSmall(
  answer: Answer,
  asked: Asked,
  rules: Rules,
  limit: number,
  buffer?: Uint8Array<ArrayBuffer>,
): Answer {
  const { body } = answer;
  if (!isFileBody(body) || body.length > limit || rules.rateLimit !== undefined) return answer;
  try {
    return { ...answer, body: readWhole(body, buffer ?? new Uint8Array(body.length)) };
  } catch (error) {
    return answerRefusal(asked, rules, refusal(error));
  }
}
