/** Text of a client's for a log or a terminal: it must not be able to write lines of its own there. */
export function printable(text: string, allowed = ""): string {
  return text.replace(
    /[^\x21-\x7e]/g,
    (character) => allowed.includes(character) ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}
