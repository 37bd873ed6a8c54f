// Does an admin act, and tells what is known of it afterwards.

import { authorized, problemOf } from './session.js';

const PATIENCE_MS = 30_000;

/** Refusals after which the same request, with the same key, is the right thing to send. */
const AGAIN = ['overloaded', 'idempotency_key_in_use'];

/**
 * Sends `request` (`{ method, path, body }`). The outcome is `done` with the answer, `refused` or `again` with the
 * problem, or `unknown`: no answer came, or one that says that the answer was lost.
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
    if (response.ok) return { outcome: 'done', answer: await response.json() };
  } catch {
    return { outcome: 'unknown', problem: null };
  }
  const problem = await problemOf(response);
  if (problem === null) {
    const bare = { title: `The answer was ${response.status}`, detail: 'It does not come from flashsale: something stands between.', code: String(response.status) };
    return { outcome: response.status < 500 ? 'refused' : 'unknown', problem: bare };
  }
  if (problem.code === 'outcome_unknown') return { outcome: 'unknown', problem };
  return { outcome: AGAIN.includes(problem.code) ? 'again' : 'refused', problem };
}

/** Random also on plain-http hosts, where `crypto.randomUUID` is missing. */
export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
