/**
 * How much a request wants `value`, by an `Accept` or `Accept-Encoding` field: its weight from 0 to 1, undefined where
 * the field names it in no way. `wildcards` name it too, the more specific first. RFC 9110, 12.4.2.
 */
export function quality(field: string, value: string, wildcards: readonly string[]): number | undefined {
  const weights = new Map<string, number>();
  for (const element of field.toLowerCase().split(",")) {
    const [name, ...parameters] = element.split(";").map((part) => part.trim());
    if (name !== "") weights.set(name, weightOf(parameters));
  }
  for (const name of [value, ...wildcards]) {
    const weight = weights.get(name);
    if (weight !== undefined) return weight;
  }
  return undefined;
}

function weightOf(parameters: string[]): number {
  const q = parameters.find((parameter) => /^q\s*=/.test(parameter));
  if (q === undefined) return 1;
  const weight = Number(q.slice(q.indexOf("=") + 1));
  return weight >= 0 && weight <= 1 ? weight : 0; // malformed: not wanted, rather than taken for the most wanted
}
