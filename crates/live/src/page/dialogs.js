// The dialogs of this page: the request that each one sends, and the text for its answer.

import { ActionDialog } from './action-dialog.js';
import { differencesTable } from './audit.js';
import { byId, make, setText } from './dom.js';
import { showDeadEvents } from './dead-events.js';
import { count, plural } from './format.js';
import { changesOf, fillRules, localTime } from './rules.js';

const said = (text, className = '') => [make('p', {}, make('strong', { textContent: text, className }))];
const whole = (field) => (field.value === '' ? undefined : Number(field.value));
const moment = (field) => (field.value === '' ? undefined : new Date(field.value).toISOString());

const ACTIONS = {
  'create-product': {
    prepare() {
      setText(byId('product-zone'), zone());
    },
    request: ({ elements }) => ({
      method: 'POST',
      path: '/products',
      body: {
        name: elements.name.value.trim(),
        stock: whole(elements.stock),
        max_per_user: whole(elements.max_per_user),
        hold_seconds: whole(elements.hold_seconds),
        sale_starts_at: moment(elements.sale_starts_at),
        sale_ends_at: moment(elements.sale_ends_at),
      },
    }),
    done: ({ id, name, stock }) => [...said(`Product ${id} created`), make('p', { textContent: `${name}, with ${plural(stock, 'unit')}, all free.` })],
  },

  'adjust-stock': {
    prepare(form, { id, name }) {
      setText(byId('adjust-stock-about'), `Changes the number of free units of ${name} (product ${id}). The change is stored with its reason.`);
      preview(form);
    },
    request: ({ elements }, { id }) => ({
      method: 'POST',
      path: `/products/${id}/stock`,
      body: { delta: delta(elements), reason: elements.reason.value.trim() },
    }),
    done: ({ id, stock, total }) => [
      ...said(`Stock of product ${id} adjusted`),
      make('p', { textContent: `Now ${count(stock)} of ${plural(total, 'unit')} are free.` }),
    ],
  },

  'change-rules': {
    prepare(form, product) {
      setText(byId('change-rules-title'), `Change ${product.name}`);
      setText(byId('rules-zone'), zone());
      fillRules(form.elements, product);
    },
    request: ({ elements }, product) => ({ method: 'PATCH', path: `/products/${product.id}`, body: changesOf(elements, product) }),
    done: ({ id, name }) => [...said(`Product ${id} changed`), make('p', { textContent: `${name} has these rules now. Holds that exist keep their deadlines.` })],
  },

  'sync-expired': {
    request: () => ({ method: 'POST', path: '/admin/reservations/sync-expired' }),
    done: ({ expired }) => said(expired === 0 ? 'No hold was due' : `${plural(expired, 'hold')} expired`),
  },

  'requeue-events': {
    prepare: () => showDeadEvents(),
    request: () => ({ method: 'POST', path: '/admin/outbox/requeue' }),
    done: ({ requeued }) => said(requeued === 0 ? 'There were no dead letters' : `${plural(requeued, 'event')} requeued`),
  },

  'replay-events': {
    prepare({ elements }) {
      setText(byId('replay-zone'), zone());
      const now = Date.now();
      elements.from.value = localTime(now - 300_000);
      elements.to.value = localTime(now);
    },
    request: ({ elements }) => ({ method: 'POST', path: '/admin/outbox/replay', body: { from: moment(elements.from), to: moment(elements.to) } }),
    done: ({ replayed }) => said(replayed === 0 ? 'No event was published in this time' : `${plural(replayed, 'event')} will be published again`),
  },

  'rebuild-counters': {
    request: () => ({ method: 'POST', path: '/admin/counters/rebuild' }),
    done: ({ created, confirmed, canceled, expired }) => [
      ...said('Counters rebuilt'),
      make('p', { textContent: `${count(created)} reserved, ${count(confirmed)} confirmed, ${count(canceled)} canceled, ${count(expired)} expired.` }),
    ],
  },

  'run-audit': {
    atOnce: true,
    request: () => ({ method: 'GET', path: '/admin/audit' }),
    done: ({ clean, products, differences }) => (clean
      ? [...said('The inventory is consistent'), make('p', { textContent: `${plural(products.length, 'product')} compared, no difference.` })]
      : [
        ...said('The inventory is inconsistent', 'bad'),
        make('p', { textContent: `${plural(products.length, 'product')} compared, ${plural(differences.length, 'difference')}:` }),
        make('div', { className: 'wide', tabIndex: 0, role: 'region', ariaLabel: 'Differences' }, differencesTable(differences)),
      ]),
  },
};

export function openDialogs(model) {
  const dialogs = new Map(Object.entries(ACTIONS).map(([name, action]) => [name, new ActionDialog(name, action)]));
  document.addEventListener('click', ({ target }) => {
    const button = target.closest('button[data-action]');
    const { product, opened } = button?.closest('[data-product], [data-opened]')?.dataset ?? {};
    dialogs.get(button?.dataset.action)?.open(model.product(product ?? opened));
  });

  const adjust = byId('dialog-adjust-stock').querySelector('form');
  adjust.addEventListener('input', () => preview(adjust));
  for (const ids of [['product-opens', 'product-closes'], ['rules-opens', 'rules-closes'], ['replay-from', 'replay-to']]) {
    const [starts, ends] = ids.map(byId);
    for (const field of [starts, ends]) field.addEventListener('input', () => checkOrder(starts, ends));
  }
}

const zone = () => `Times are in your time zone, ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`;

function delta({ direction, units }) {
  return direction.value === 'remove' ? -Number(units.value) : Number(units.value);
}

/** Describes the change before it is sent. */
function preview({ elements }) {
  const units = Number(elements.units.value);
  const valid = elements.units.value !== '' && elements.units.validity.valid;
  setText(byId('adjust-stock-preview'), !valid ? '' : elements.direction.value === 'remove'
    ? `Removes ${plural(units, 'free unit')}. The change is refused if fewer units are free.`
    : `Adds ${plural(units, 'free unit')}.`);
}

function checkOrder(starts, ends) {
  const backwards = starts.value !== '' && ends.value !== '' && ends.value <= starts.value;
  ends.setCustomValidity(backwards ? 'too early' : '');
}
