/** Escapes a client's text for a log or a terminal, so that it cannot add lines of its own. */
export function printable(text: string, allowed = ""): string {
  return text.replace(
    /[^\x21-\x7e]/g,
    (character) => allowed.includes(character) ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}
