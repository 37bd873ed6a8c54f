// The view of one product: its numbers, rates and rules, its holds, its line, its ledger and its last transitions.

import { byId, make, problemNodes, setAttribute, setHidden, setText, table } from './dom.js';
import { amount, count, dayAndTime, rate, timeOfDay, UNKNOWN, wholeDuration } from './format.js';
import { drawStock, hours, MARKS, saleState } from './product-row.js';
import { read } from './read.js';
import { remaining } from './reservation-table.js';
import { openedProduct, productAddress } from './route.js';
import { transitionsOf } from './transitions.js';
import { transition } from './words.js';

const ROWS = 10;
/** Time between two reads of the same list. Lists that did not change are read again more seldom. */
const READ_MS = 5000;
const READ_UNCHANGED_MS = 30_000;

/** `changes` are the numbers of the product that change with the list. */
const LISTS = {
  holds: {
    path: (id) => `/reservations?product_id=${id}&status=ACTIVE&limit=${ROWS}`,
    changes: ({ held, sold, stock }) => [held, sold, stock],
    none: 'No unit is held.',
    draw: (holds, model) => table(['Reservation', 'User', 'Units', 'Ends in'], holds.map((hold) => [
      `#${hold.id}`, String(hold.user_id), count(hold.quantity), remaining(hold, model.time()),
    ])),
  },
  line: {
    path: (id) => `/waitlist?product_id=${id}&status=WAITING&limit=${ROWS}`,
    changes: ({ waiting }, offered) => [waiting, offered],
    none: 'Nobody waits.',
    draw: (entries) => table(['Place', 'User', 'Units', 'Since'], entries.map((entry, index) => [
      count(entry.position ?? index + 1), String(entry.user_id), count(entry.quantity), dayAndTime(entry.created_at),
    ])),
  },
  offered: {
    path: (id) => `/waitlist?product_id=${id}&status=OFFERED&order=newest&limit=${ROWS}`,
    changes: (_, offered) => [offered],
    none: 'Nothing was offered.',
    draw: (entries) => table(['Offered', 'User', 'Units', 'Reservation'], entries.map((entry) => [
      dayAndTime(entry.ended_at), String(entry.user_id), count(entry.quantity), `#${entry.reservation_id}`,
    ])),
  },
  ledger: {
    path: (id) => `/products/${id}/stock?limit=${ROWS}`,
    changes: ({ total }) => [total],
    none: 'The stock was never changed.',
    draw: (changes) => table(['Time', 'Units', 'Reason'], changes.map(({ created_at, delta, reason }) => [
      dayAndTime(created_at), delta > 0 ? `+${count(delta)}` : `−${count(-delta)}`, reason,
    ])),
  },
  transitions: {
    path: (id) => `/reservations?product_id=${id}&limit=${2 * ROWS}`,
    changes: ({ held, sold, stock }) => [held, sold, stock],
    none: 'No transitions yet.',
    draw: (reservations, model, product) => table(['Time', 'What', 'User', 'Reservation'],
      transitionsOf(reservations, model.feed, product.id).map(({ at, what, user_id, reservation_id }) => [
        timeOfDay(at), make('b', { textContent: transition(what) }), String(user_id), `#${reservation_id}`,
      ])),
  },
};

/** The product that is shown: its id as text, and for each list what was read. */
let shown = null;
/** The row that the user came from. */
let origin = null;

export function openProductView(redraw) {
  window.addEventListener('hashchange', () => {
    route();
    redraw();
  });
  route();
}

function route() {
  const id = openedProduct(location.hash);
  if (id === (shown?.id ?? null)) return;
  const before = shown;
  shown = id === null ? null : { id, lists: Object.fromEntries(Object.keys(LISTS).map((name) => [name, { at: 0, key: '', busy: false, found: null }])) };
  for (const name of Object.keys(LISTS)) byId(`product-${name}`).replaceChildren();
  document.body.dataset.view = id === null ? 'all' : 'product';
  setHidden(byId('product'), id === null);
  setAttribute(byId('product'), 'data-opened', id);
  if (id !== null) {
    origin = document.activeElement?.getAttribute('href') === productAddress(id) ? document.activeElement : null;
    scrollTo(0, 0);
    byId('product-title').focus();
  } else if (before !== null) {
    (origin?.isConnected ? origin : byId('main')).focus();
  }
}

export function drawProductView(model) {
  if (shown === null) return;
  const product = model.product(shown.id);
  setHidden(byId('product-missing'), product !== undefined);
  setHidden(byId('product-body'), product === undefined);
  setText(byId('product-title'), product?.name ?? `Product ${shown.id}`);
  if (product === undefined) return;
  const offered = model.offered.get(product.id) ?? 0;
  drawNumbers(product, offered, model);
  drawRules(product);
  for (const name of Object.keys(LISTS)) drawList(name, product, offered, model);
}

function drawNumbers(product, offered, model) {
  const time = model.time();
  const { id, sku, stock, held, sold, total, waiting = 0 } = product;
  setText(byId('product-id'), `#${id}${sku === undefined ? '' : ` · SKU ${sku}`}`);
  const state = saleState(product, time);
  setAttribute(byId('product'), 'data-state', state);
  setText(byId('product-mark'), MARKS[state]);
  setText(byId('product-hours'), hours(product, time));
  drawStock(byId('product-bar'), product);
  const pace = model.pace(product);
  for (const [name, text] of Object.entries({
    free: amount(stock), held: amount(held), sold: amount(sold), total: amount(total), waiting: amount(waiting), offers: amount(offered),
    'sold-rate': rate(Math.max(pace.sold, 0)), 'taken-rate': signed(pace.taken),
  })) setText(byId(`product-${name}-number`), text);
}

/** More units may come back than are taken. */
const signed = (value) => (value < 0 ? `−${rate(-value)}` : rate(value));

function drawRules({ max_per_user, hold_seconds, max_hold_seconds, sale_starts_at, sale_ends_at, created_at }) {
  const seconds = (value) => (value === undefined ? 'default of the API' : wholeDuration(value));
  const moment = (value, none) => (value === undefined ? none : dayAndTime(value));
  for (const [name, text] of Object.entries({
    'max-per-user': max_per_user === undefined ? 'no limit' : count(max_per_user),
    'hold-seconds': seconds(hold_seconds),
    'max-hold-seconds': seconds(max_hold_seconds),
    starts: moment(sale_starts_at, 'no start'),
    ends: moment(sale_ends_at, 'no end'),
    created: moment(created_at, UNKNOWN),
  })) setText(byId(`product-rule-${name}`), text);
}

function drawList(name, product, offered, model) {
  const list = shown.lists[name];
  const key = LISTS[name].changes(product, offered).join(' ');
  const age = Date.now() - list.at;
  if (!list.busy && !document.hidden && age >= (key === list.key ? READ_UNCHANGED_MS : READ_MS)) readList(name, list, key, product.id);
  const { found } = list;
  if (found === null) return;
  const place = byId(`product-${name}`);
  const nodes = found.problem !== undefined
    ? problemNodes(found.problem)
    : [LISTS[name].draw(found.answer, model, product)];
  const none = nodes[0].tagName === 'TABLE' && nodes[0].tBodies[0].rows.length === 0;
  const drawn = none ? [make('p', { className: 'empty', textContent: LISTS[name].none })] : nodes;
  // The text of most lists is the same as a second ago.
  const same = drawn.length === place.children.length && drawn.every((node, index) => node.isEqualNode(place.children[index]));
  if (!same) place.replaceChildren(...drawn);
}

async function readList(name, list, key, id) {
  list.busy = true;
  list.found = await read(LISTS[name].path(id));
  // A list that could not be read is read again soon.
  Object.assign(list, { busy: false, at: Date.now(), key: list.found.problem === undefined ? key : null });
}
