// The state of the books, and the table of what does not agree.

import { byId, make, setAttribute, setHidden, setText } from './dom.js';
import { count, plural, timeOfDay, UNKNOWN, wholeDuration } from './format.js';
import { counter } from './words.js';

let shown = null;

export function drawAudit(model) {
  const { audit } = model.now;
  const state = audit === null ? 'none' : audit.clean ? 'clean' : 'differs';
  setAttribute(byId('audit'), 'data-audit', state);
  setText(byId('audit-badge'), { none: 'Not audited yet', clean: 'Right', differs: 'Do not agree' }[state]);
  setText(byId('audit-text'), audit === null
    ? 'An audit compares every product’s counters with its reservations.'
    : `${plural(audit.products, 'product')} compared at ${timeOfDay(audit.at)}, ${wholeDuration((model.time() - Date.parse(audit.at)) / 1000)} ago.`);

  const differences = audit?.differences ?? [];
  setHidden(byId('audit-differences'), differences.length === 0);
  const key = JSON.stringify(differences);
  if (key === shown) return;
  shown = key;
  byId('audit-differences').replaceChildren(...(differences.length === 0 ? [] : [differencesTable(differences)]));
}

export function differencesTable(differences) {
  const cell = (textContent) => make('td', { textContent });
  return make('table', { className: 'differences' },
    make('thead', {}, make('tr', {}, ...['Product', 'Counter', 'It says', 'Should be', 'Off by'].map((textContent) => make('th', { scope: 'col', textContent })))),
    make('tbody', {}, ...differences.map(({ product_id, counter: name, counted, expected }) => make('tr', {},
      make('th', { scope: 'row', textContent: product_id ?? UNKNOWN }),
      cell(counter(name)), cell(count(counted)), cell(count(expected)),
      cell((counted > expected ? '+' : '−') + count(Math.abs(counted - expected)))))));
}
