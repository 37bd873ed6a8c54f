// The list of dead letters in the dialog that requeues them: what failed, and why.

import { byId, make, problemNodes, table } from './dom.js';
import { count, dayAndTime, plural, UNKNOWN } from './format.js';
import { read } from './read.js';

/** The API lists no more. */
const MOST = 100;

export async function showDeadEvents() {
  const place = byId('requeue-events-list');
  place.replaceChildren(make('p', { className: 'note', textContent: 'Reading the dead letters…' }));
  const { answer: events, problem } = await read('/admin/outbox/dead');
  place.replaceChildren(...(problem === undefined ? listed(events) : problemNodes(problem)));
}

function listed(events) {
  if (events.length === 0) return [make('p', { className: 'note', textContent: 'There are no dead letters.' })];
  const words = events.length < MOST ? plural(events.length, 'dead letter') : `The oldest ${MOST} dead letters`;
  const rows = events.map(({ id, event_type, payload, attempts, last_error, dead_at }) => [
    `#${id}`, event_type, last_error ?? UNKNOWN, count(attempts), dayAndTime(dead_at),
    make('code', { textContent: JSON.stringify(payload) }),
  ]);
  return [make('p', { className: 'note', textContent: `${words}:` }), table(['Event', 'Type', 'Error', 'Attempts', 'Since', 'Payload'], rows)];
}
