/** Shared parts of our own pages: listings and errors. */

/** A policy that allows no loading and no scripts: a page shows file names that strangers may have chosen. */
export const POLICY = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE = `:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
h1 { font-size: 1.25rem; overflow-wrap: anywhere }
a { text-decoration: none }
a:hover { text-decoration: underline }`;

/** Escapes a text for the content or an attribute of an element. */
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

/** The start of a document, up to its content. `title` is plain text, `style` additional CSS. */
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
