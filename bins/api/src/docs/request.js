// From the fields of a form to a request, and from an answer to text. No document here, so that Node.js can test it.

/**
 * The URL and the options of a request. `fields` are `{ name, place, value }`, where the place is that of an OpenAPI
 * parameter. The URL is relative to the page, because a proxy may serve the API under a prefix.
 */
export function requestOf({ method, path, fields, body, secret }, page) {
  const given = fields.filter(({ value }) => value !== '');
  const inPath = (text, { name, value }) => text.replace(`{${name}}`, encodeURIComponent(value));
  const filled = given.filter(({ place }) => place === 'path').reduce(inPath, path);
  const url = new URL(`.${filled}`, page);
  const headers = new Headers();
  for (const { name, place, value } of given) {
    if (place === 'query') url.searchParams.append(name, value);
    if (place === 'header') headers.set(name, value);
  }
  if (secret !== '') headers.set('Authorization', `Bearer ${secret}`);
  const options = { method: method.toUpperCase(), headers, cache: 'no-store' };
  if (body !== '') {
    headers.set('Content-Type', 'application/json');
    options.body = body;
  }
  return { url, options };
}

/** JSON with line breaks. Text stays as it is if it is no JSON, or if JavaScript cannot hold its numbers exactly. */
export function readable(text) {
  try {
    const value = JSON.parse(text);
    return JSON.stringify(value) === text.trim() ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text;
  }
}
