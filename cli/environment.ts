import { type Command, Failure, FLAGS, parseCommand } from "./arguments.ts";
import { environment } from "../ffi/load.ts";

/** Flags that do not start a server. */
const NONE: readonly string[] = ["help", "version"];

/** The environment variable of each flag: `SENDFILE_MAX_AGE` for `--max-age`. */
export const VARIABLES: ReadonlyMap<string, string> = new Map(
  Object.keys(FLAGS).filter((flag) => !NONE.includes(flag))
    .map((flag) => [flag, `SENDFILE_${flag.toUpperCase().replaceAll("-", "_")}`]),
);

/** As {@link parseCommand}, with flags from environment variables in front, so that flags of the command line win. */
export function parseWithEnvironment(
  args: string[],
  read: (variable: string) => string | undefined = environment,
): Command {
  const given = argumentsFrom(read);
  try {
    return parseCommand([...given, ...args]);
  } catch (error) {
    parseCommand(args); // if this throws, the command line itself is wrong, not a variable
    const flags = given.map((argument) => /^--([^=]+)/.exec(argument)![1]);
    const variables = [...new Set(flags)].map((flag) => VARIABLES.get(flag));
    throw new Failure(`${(error as Error).message} (set by the environment: ${variables.join(", ")})`, 2);
  }
}

function argumentsFrom(read: (variable: string) => string | undefined): string[] {
  return [...VARIABLES].flatMap(([flag, variable]) => {
    const value = read(variable);
    if (!value) return []; // empty counts as not set
    const { type, multiple }: { type: string; multiple?: boolean } = FLAGS[flag as keyof typeof FLAGS];
    if (type === "boolean") return isOn(variable, value) ? [`--${flag}`] : [];
    const values = multiple ? value.split("\n").filter((line) => line.trim() !== "") : [value];
    return values.map((value) => `--${flag}=${value}`);
  });
}

function isOn(variable: string, value: string): boolean {
  if (/^(?:1|true|yes|on)$/i.test(value)) return true;
  if (/^(?:0|false|no|off)$/i.test(value)) return false;
  throw new Failure(`${variable} must be 1 or 0, not ${JSON.stringify(value)}`, 2);
}
