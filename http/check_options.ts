/** The type of an option: a test for a value, and a description for error messages. */
export interface OptionType {
  readonly is: (value: unknown) => boolean;
  readonly words: string;
}

/** The options of a function by their names. */
export type OptionTypes = Readonly<Record<string, OptionType>>;

function ofType(type: "boolean" | "number" | "string" | "function", words: string): OptionType {
  // deno-lint-ignore valid-typeof -- the rule does not see that `type` is a type name
  return { is: (value) => typeof value === type, words };
}

export const BOOLEAN = ofType("boolean", "true or false");
export const NUMBER = ofType("number", "a number");
export const STRING = ofType("string", "a string");
export const FUNCTION = ofType("function", "a function");
export const FALSE: OptionType = { is: (value) => value === false, words: "false" };
export const OBJECT: OptionType = {
  is: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  words: "an object",
};
export const STRINGS: OptionType = {
  is: (value) => Array.isArray(value) && value.every((item) => typeof item === "string"),
  words: "a list of strings",
};

/** One of several types. */
export function either(...types: OptionType[]): OptionType {
  return {
    is: (value) => types.some((type) => type.is(value)),
    words: types.map(({ words }) => words).join(" or "),
  };
}

/** One of several words. */
export function oneOf(...words: string[]): OptionType {
  return {
    is: (value) => words.includes(value as string),
    words: words.map((word) => JSON.stringify(word)).join(", "),
  };
}

/**
 * Throws a `TypeError` that names an option that is unknown or has the wrong type. An option that is `undefined`
 * counts as not given.
 */
export function checkOptions(options: object, types: OptionTypes): void {
  if (!OBJECT.is(options)) throw new TypeError(`options must be an object, not ${shown(options)}`);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const type = Object.hasOwn(types, name) ? types[name] : undefined;
    if (!type) throw new TypeError(`there is no option ${name}${suggestion(name, types)}`);
    if (!type.is(value)) throw new TypeError(`${name} must be ${type.words}, not ${shown(value)}`);
  }
}

function suggestion(name: string, types: OptionTypes): string {
  const similar = Object.keys(types).find((known) => known.toLowerCase() === name.toLowerCase());
  return similar === undefined ? "" : `: it is named ${similar}`;
}

function shown(value: unknown): string {
  if (typeof value === "function") return "a function";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
