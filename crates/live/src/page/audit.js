// The result of the last audit, and the table of differences.

import { byId, make, setAttribute, setHidden, setText } from './dom.js';
import { count, plural, timeOfDay, UNKNOWN, wholeDuration } from './format.js';
import { counter } from './words.js';

/**
 * While the page has viewers, an audit runs every minute. An older audit than this does not show the current
 * state.
 */
const OLD_SECONDS = 300;

let shown = null;

export function drawAudit(model) {
  const { audit } = model.now;
  const state = audit === null ? 'none' : audit.clean ? 'clean' : 'differs';
  setAttribute(byId('audit'), 'data-audit', state);
  setText(byId('audit-badge'), { none: 'Not audited yet', clean: 'Consistent', differs: 'Inconsistent' }[state]);
  setText(byId('audit-text'), audit === null
    ? 'An audit compares the counters of every product with its reservations.'
    : describe(audit, model.time()));

  const differences = audit?.differences ?? [];
  setHidden(byId('audit-differences'), differences.length === 0);
  const key = JSON.stringify(differences);
  if (key === shown) return;
  shown = key;
  byId('audit-differences').replaceChildren(...(differences.length === 0 ? [] : [differencesTable(differences)]));
}

export const isOld = ({ at }, time) => time - Date.parse(at) > OLD_SECONDS * 1000;

export function describe(audit, time) {
  const { at, products, differences, difference_count: all = differences.length } = audit;
  const when = isOld(audit, time) ? 'compared; no audit since' : 'compared at';
  const age = wholeDuration((time - Date.parse(at)) / 1000);
  const part = all > differences.length ? ` Differences: ${count(differences.length)} of ${count(all)} shown.` : '';
  return `${plural(products, 'product')} ${when} ${timeOfDay(at)}, ${age} ago.${part}`;
}

export function differencesTable(differences) {
  const cell = (textContent) => make('td', { textContent });
  return make('table', { className: 'differences' },
    make('thead', {}, make('tr', {}, ...['Product', 'Counter', 'Value', 'Expected', 'Difference'].map((textContent) => make('th', { scope: 'col', textContent })))),
    make('tbody', {}, ...differences.map(({ product_id, counter: name, counted, expected }) => make('tr', {},
      make('th', { scope: 'row', textContent: product_id ?? UNKNOWN }),
      cell(counter(name)), cell(count(counted)), cell(count(expected)),
      cell((counted > expected ? '+' : '−') + count(Math.abs(counted - expected)))))));
}
