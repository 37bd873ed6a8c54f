// Reads lists and single objects of the API.

import { authorized, bareProblem, problemOf } from './session.js';
import { parseData } from './sse.js';

const PATIENCE_MS = 10_000;
const LOST = { title: 'There was no answer', detail: 'The API could not be reached, or took too long.', code: 'no_answer' };

/** The path of the next page, as the header `Link` says it. `null`: this is the last page. */
export const nextPage = (link) => /^<([^>]+)>; rel="next"$/.exec(link ?? '')?.[1] ?? null;

/** Returns `{ answer, next }`, or `{ problem, status }`. */
export async function read(path) {
  try {
    const response = await fetch(path, {
      headers: authorized({ Accept: 'application/json' }),
      cache: 'no-store',
      credentials: 'omit',
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (response.ok) return { answer: parseData(await response.text()), next: nextPage(response.headers.get('Link')) };
    return { problem: (await problemOf(response)) ?? bareProblem(response), status: response.status };
  } catch {
    return { problem: LOST, status: null };
  }
}
