/**
 * The weight from 0 to 1 that an `Accept` or `Accept-Encoding` field gives `value`; undefined if the field does not
 * mention it. `wildcards` also match it, the more specific first. RFC 9110, 12.4.2.
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
  return weight >= 0 && weight <= 1 ? weight : 0; // malformed: 0, so that it does not count as most preferred
}
