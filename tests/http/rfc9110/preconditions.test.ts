import { assertEquals } from "@std/assert";
import { precondition, rangeIsCurrent, type Validators } from "../../../http/rfc9110/preconditions.ts";
import { test } from "../../support/harness.ts";

type Fields = Readonly<Record<string, string>>;

const BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT";
const SAME = "Sun, 06 Nov 1994 08:49:37 GMT";
const AFTER = "Sun, 06 Nov 1994 08:49:38 GMT";

const FILE: Validators = { tag: '"a"', modified: 784111777 };
const WEAK: Validators = { ...FILE, tag: 'W/"a"' };
const UNTAGGED: Validators = { ...FILE, tag: undefined };
const UNDATED: Validators = { ...FILE, modified: undefined };

const fieldOf = (fields: Fields) => (name: string) => fields[name];

const PRECONDITIONS: readonly [Fields, Validators, 200 | 304 | 412][] = [
  [{}, FILE, 200],
  [{ "if-match": '"a"' }, FILE, 200],
  [{ "if-match": '"b"' }, FILE, 412],
  [{ "if-match": '"b", "a"' }, FILE, 200],
  [{ "if-match": "*" }, FILE, 200],
  [{ "if-match": 'W/"a"' }, FILE, 412],
  [{ "if-match": '"a"' }, WEAK, 412],
  [{ "if-match": '"a"' }, UNTAGGED, 412],
  [{ "if-match": '"a"', "if-unmodified-since": BEFORE }, FILE, 200],
  [{ "if-unmodified-since": BEFORE }, FILE, 412],
  [{ "if-unmodified-since": SAME }, FILE, 200],
  [{ "if-unmodified-since": AFTER }, FILE, 200],
  [{ "if-unmodified-since": BEFORE }, UNDATED, 200],
  [{ "if-unmodified-since": "yesterday" }, FILE, 200],
  [{ "if-none-match": '"a"' }, FILE, 304],
  [{ "if-none-match": 'W/"a"' }, FILE, 304],
  [{ "if-none-match": '"a"' }, WEAK, 304],
  [{ "if-none-match": 'W/"a"' }, WEAK, 304],
  [{ "if-none-match": '"b"' }, FILE, 200],
  [{ "if-none-match": '"b", W/"a"' }, FILE, 304],
  [{ "if-none-match": '"b","a"' }, FILE, 304],
  [{ "if-none-match": '"x, y", "a"' }, FILE, 304],
  [{ "if-none-match": "a" }, FILE, 200],
  [{ "if-none-match": "*" }, FILE, 304],
  [{ "if-none-match": "*" }, UNTAGGED, 304],
  [{ "if-none-match": '"a"' }, UNTAGGED, 200],
  [{ "if-none-match": '"b"', "if-modified-since": AFTER }, FILE, 200],
  [{ "if-modified-since": SAME }, FILE, 304],
  [{ "if-modified-since": AFTER }, FILE, 304],
  [{ "if-modified-since": BEFORE }, FILE, 200],
  [{ "if-modified-since": SAME }, UNDATED, 200],
  [{ "if-modified-since": "Sunday, 06-Nov-94 08:49:37 GMT" }, FILE, 304],
  [{ "if-modified-since": "Sun Nov  6 08:49:37 1994" }, FILE, 304],
  [{ "if-modified-since": "784111777" }, FILE, 200],
  [{ "if-match": '"b"', "if-none-match": '"a"' }, FILE, 412],
  [{ "if-match": '"a"', "if-none-match": '"a"' }, FILE, 304],
];

for (const [fields, validators, expected] of PRECONDITIONS) {
  const { tag = "no tag", modified = "no date" } = validators;
  test(`precondition: ${JSON.stringify(fields)} on ${tag}, ${modified}`, () => {
    assertEquals(precondition(fieldOf(fields), validators), expected);
  });
}

const IF_RANGE: readonly [string | undefined, Validators, boolean][] = [
  [undefined, FILE, true],
  ['"a"', FILE, true],
  [' "a" ', FILE, true],
  ['"b"', FILE, false],
  ['W/"a"', FILE, false],
  ['W/"a"', WEAK, false],
  ['"a"', WEAK, false],
  ['"a"', UNTAGGED, false],
  [SAME, FILE, true],
  [BEFORE, FILE, false],
  [AFTER, FILE, false],
  [SAME, UNDATED, false],
  ["a", FILE, false],
  ["*", FILE, false],
  ["", FILE, false],
];

for (const [value, validators, expected] of IF_RANGE) {
  const { tag = "no tag", modified = "no date" } = validators;
  test(`rangeIsCurrent: If-Range ${value} on ${tag}, ${modified}`, () => {
    assertEquals(rangeIsCurrent(() => value, validators), expected);
  });
}
