// The list of products: its filter, its order, and its totals.

import { byId, keepInStep, setAttribute, setHidden, setText } from './dom.js';
import { fileName, save, toCsv } from './csv.js';
import { amount, plural } from './format.js';
import { createRow, drawRow, hasHours } from './product-row.js';

/** Up to this number, products are shown as cards. */
const FEW = 12;
/** Time between two changes of the order, so that the list can be read. */
const ORDER_MS = 5000;

const ORDERS = {
  id: () => (one, other) => one.id - other.id,
  // Products that sell about equally fast keep their order.
  active: (model) => {
    const step = (product) => Math.round(Math.log2(1 + model.activity(product)));
    return (one, other) => step(other) - step(one) || one.id - other.id;
  },
  fullest: () => (one, other) => freeShare(one) - freeShare(other) || one.id - other.id,
};
const freeShare = ({ stock, total }) => (total > 0 ? stock / total : 1);

const POINTER = matchMedia('(hover: hover)');

const nodes = new Map();
/** Products whose row shows that they sell. */
const paced = new Set();
let ids = [];
let orderedAt = 0;
let orderedBy = '';
let filtered = '';

export function openProducts(model, redraw) {
  byId('products-export').addEventListener('click', () => exportProducts(model));
  byId('products-filter').addEventListener('input', redraw);
  byId('products-sort').addEventListener('change', redraw);
}

export function drawProducts(model) {
  const { products } = model;
  const changed = model.takeChanged();
  setText(byId('products-count'), model.now.products_shown === 'all' ? amount(products.size) : `the ${model.now.products_shown}`);
  setAttribute(byId('products'), 'data-density', products.size <= 1 ? 'one' : products.size <= FEW ? 'few' : 'many');
  setHidden(byId('products-tools'), products.size <= 1);

  order(model);
  keepInStep(byId('products-list'), nodes, ids, (id) => {
    changed.add(id);
    return createRow(id);
  });
  const time = model.time();
  for (const id of ids) {
    const product = products.get(id);
    // The start and end of a sale change the row without a change of the product, and so does the end of its sales.
    const pace = model.pace(product);
    if (changed.has(id) || hasHours(product) || pace.sold > 0 || paced.has(id)) {
      drawRow(nodes.get(id), product, { time, offered: model.offered.get(id) ?? 0, pace });
    }
    // The last row of a product that sold shows that it does not sell any more.
    if (pace.sold > 0) paced.add(id);
    else paced.delete(id);
  }
  filter(products, changed);
  drawTotals(products);
}

function order(model) {
  const by = byId('products-sort').value;
  const list = byId('products-list');
  // The order does not change while the pointer or the focus is in the list. On touch screens `:hover` stays after
  // a tap, so it does not count there.
  const held = list.contains(document.activeElement) || (POINTER.matches && list.matches(':hover'));
  const sameSet = ids.length === model.products.size && ids.every((id) => model.products.has(id));
  const outdated = by === 'id' ? !sameSet : !held && Date.now() - orderedAt > ORDER_MS;

  if (by !== orderedBy || outdated) {
    ids = [...model.products.values()].sort(ORDERS[by](model)).map((product) => product.id);
    orderedAt = Date.now();
    orderedBy = by;
  } else if (!sameSet) {
    const kept = ids.filter((id) => model.products.has(id));
    ids = [...new Set([...kept, ...model.products.keys()])];
  }
}

function filter(products, changed) {
  const wanted = byId('products-filter').value.trim().toLowerCase();
  const anew = wanted !== filtered;
  filtered = wanted;
  let found = 0;
  for (const id of ids) {
    const node = nodes.get(id);
    if (anew || changed.has(id)) setHidden(node, !matches(products.get(id), wanted));
    if (!node.hidden) found += 1;
  }
  setText(byId('products-found'), wanted === '' ? '' : `${plural(found, 'product')} of ${amount(ids.length)}`);
  setHidden(byId('products-found'), wanted === '');
  setHidden(byId('products-none'), found > 0);
  setText(byId('products-none'), ids.length === 0 ? 'There are no products yet. Create the first one.' : 'No product has this name or id.');
}

const matches = ({ id, name }, wanted) => name.toLowerCase().includes(wanted) || String(id).startsWith(wanted.replace('#', ''));

function drawTotals(products) {
  let [sold, held, free] = [0, 0, 0];
  for (const product of products.values()) {
    sold += product.sold;
    held += product.held;
    free += product.stock;
  }
  setText(byId('total-sold'), amount(sold));
  setText(byId('total-held'), amount(held));
  setText(byId('total-free'), amount(free));
}

/** The products that the list shows, in its order. */
function exportProducts(model) {
  const shown = ids.filter((id) => model.products.has(id) && !nodes.get(id)?.hidden).map((id) => model.products.get(id));
  const columns = [
    'id', 'sku', 'name', 'free', 'held', 'sold', 'total', 'waiting', 'offered', 'sold_per_second',
    'max_per_user', 'hold_seconds', 'max_hold_seconds', 'sale_starts_at', 'sale_ends_at',
  ];
  const rows = shown.map((product) => [
    product.id, product.sku, product.name, product.stock, product.held, product.sold, product.total, product.waiting ?? 0,
    model.offered.get(product.id) ?? 0, Math.max(model.pace(product).sold, 0),
    product.max_per_user, product.hold_seconds, product.max_hold_seconds, product.sale_starts_at, product.sale_ends_at,
  ]);
  save(fileName('products', Date.now()), toCsv(columns, rows));
}
