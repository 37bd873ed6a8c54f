// Sends an admin request, and returns its outcome.

import { authorized, bareProblem, problemOf } from './session.js';
import { parseData } from './sse.js';

const PATIENCE_MS = 30_000;

/** Problem codes after which the same request with the same key should be sent again. */
const AGAIN = ['overloaded', 'idempotency_key_in_use'];

/**
 * Sends `request` (`{ method, path, body }`). The outcome is `done` with the answer, `refused` or `again` with the
 * problem, or `unknown` if no answer came or the problem is `outcome_unknown`.
 */
export async function act({ method, path, body }, key) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: authorized({
        ...(method === 'GET' ? {} : { 'Idempotency-Key': key }),
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      }),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      cache: 'no-store',
      credentials: 'omit',
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (response.ok) return { outcome: 'done', answer: parseData(await response.text()) };
  } catch {
    return { outcome: 'unknown', problem: null };
  }
  const problem = await problemOf(response);
  if (problem === null) {
    return { outcome: response.status < 500 ? 'refused' : 'unknown', problem: bareProblem(response) };
  }
  if (problem.code === 'outcome_unknown') return { outcome: 'unknown', problem };
  return { outcome: AGAIN.includes(problem.code) ? 'again' : 'refused', problem };
}

/** A random key. `crypto.randomUUID` is not available on hosts with plain http. */
export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
