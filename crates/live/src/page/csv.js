// Tables as CSV files (RFC 4180).

/** A spreadsheet would run a text that begins like this as a formula. */
const FORMULA = /^[=+\-@\t\r]/;

function cell(value) {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number') return String(Number(value.toFixed(3)));
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** `columns` are names. `rows` have one value for each. */
export const toCsv = (columns, rows) => [columns, ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('');

/** Lets the browser save the text as a file. */
export function save(name, text) {
  // With the mark, spreadsheets read the file as UTF-8.
  const url = URL.createObjectURL(new Blob(['\ufeff', text], { type: 'text/csv;charset=utf-8' }));
  const link = Object.assign(document.createElement('a'), { href: url, download: name });
  link.click();
  // The browser may still be reading it.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A name for a file that is made now: `products-2026-11-27T12-00-00.csv`. */
export const fileName = (what, time) => `${what}-${new Date(time).toISOString().slice(0, 19).replaceAll(':', '-')}.csv`;
