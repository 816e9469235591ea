/** What the pages of our own have in common: listings and errors. */

/** Nothing is loaded, and nothing runs: a page shows names that strangers may have chosen. */
export const POLICY = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE = `:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
h1 { font-size: 1.25rem; overflow-wrap: anywhere }
a { text-decoration: none }
a:hover { text-decoration: underline }`;

/** Text as content or attribute of an element. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}

/** A document up to its content. `title` is text, `style` what it has besides of CSS. */
export function pageStart(title: string, style = ""): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>
${STYLE}
${style}
</style>
</head>
<body>
`;
}

export const PAGE_END = "</body>\n</html>\n";
