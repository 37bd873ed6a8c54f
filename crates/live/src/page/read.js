// Reads lists and single objects of the API.

import { authorized, bareProblem, problemOf } from './session.js';
import { parseData } from './sse.js';

const PATIENCE_MS = 10_000;
const LOST = { title: 'There was no answer', detail: 'The API could not be reached, or took too long.', code: 'no_answer' };

/** The path of the next page, as the header `Link` says it. `null`: this is the last page. */
export const nextPage = (link) => /^<([^>]+)>; rel="next"$/.exec(link ?? '')?.[1] ?? null;

/**
 * Returns `{ answer, next }`, or `{ problem, status }`. A 503 says when to try again, for example because a list took
 * too long; it is returned only if it is still the answer when the time is over.
 */
export async function read(path) {
  const end = performance.now() + PATIENCE_MS;
  const signal = AbortSignal.timeout(PATIENCE_MS);
  let refused = { problem: LOST, status: null };
  try {
    for (;;) {
      const response = await fetch(path, {
        headers: authorized({ Accept: 'application/json' }), cache: 'no-store', credentials: 'omit', signal,
      });
      if (response.ok) return { answer: parseData(await response.text()), next: nextPage(response.headers.get('Link')) };
      refused = { problem: (await problemOf(response)) ?? bareProblem(response), status: response.status };
      const pause = 1000 * Number(response.headers.get('Retry-After'));
      if (response.status !== 503 || !(pause > 0) || performance.now() + pause > end) return refused;
      await new Promise((resume) => setTimeout(resume, pause));
    }
  } catch {
    return refused;
  }
}
