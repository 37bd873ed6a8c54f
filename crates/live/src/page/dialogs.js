// The dialogs of this page: the request that each one sends, and the text for its answer.

import { ActionDialog } from './action-dialog.js';
import { differencesTable } from './audit.js';
import { byId, make, setText } from './dom.js';
import { count, plural } from './format.js';

const said = (text, className = '') => [make('p', {}, make('strong', { textContent: text, className }))];
const whole = (field) => (field.value === '' ? undefined : Number(field.value));
const moment = (field) => (field.value === '' ? undefined : new Date(field.value).toISOString());

const ACTIONS = {
  'create-product': {
    prepare() {
      setText(byId('product-zone'), `Times are in your time zone, ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`);
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

  'sync-expired': {
    request: () => ({ method: 'POST', path: '/admin/reservations/sync-expired' }),
    done: ({ expired }) => said(expired === 0 ? 'No hold was due' : `${plural(expired, 'hold')} expired`),
  },

  'requeue-events': {
    request: () => ({ method: 'POST', path: '/admin/outbox/requeue' }),
    done: ({ requeued }) => said(requeued === 0 ? 'There were no dead letters' : `${plural(requeued, 'event')} requeued`),
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
    const product = button?.closest('[data-product]')?.dataset.product;
    dialogs.get(button?.dataset.action)?.open(product && model.products.get(Number(product)));
  });

  const adjust = byId('dialog-adjust-stock').querySelector('form');
  adjust.addEventListener('input', () => preview(adjust));
  const [opens, closes] = [byId('product-opens'), byId('product-closes')];
  for (const field of [opens, closes]) field.addEventListener('input', () => checkHours(opens, closes));
}

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

function checkHours(opens, closes) {
  const backwards = opens.value !== '' && closes.value !== '' && closes.value <= opens.value;
  closes.setCustomValidity(backwards ? 'too early' : '');
}
