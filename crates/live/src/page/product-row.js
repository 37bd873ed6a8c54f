// One product: its name, its bar, its numbers, and the state of its sale.

import { fromTemplate, setAttribute, setText } from './dom.js';
import { amount, count, dayAndTime, rate, wholeDuration } from './format.js';
import { productAddress } from './route.js';

export const MARKS = {
  'sold-out': 'Sold out', empty: 'No units yet', 'not-open': 'Not started', closed: 'Ended', open: '',
};

export function createRow(id) {
  const node = fromTemplate('template-product');
  node.dataset.product = id;
  node.querySelector('[data-id]').textContent = `#${id}`;
  node.querySelector('[data-name]').href = productAddress(id);
  return node;
}

export function drawRow(node, product, { time, offered, pace }) {
  const { id, name, stock, held, sold, total } = product;
  const part = (selector) => node.querySelector(selector);
  setText(part('[data-name]'), name);
  setAttribute(part('h3'), 'title', name);
  for (const [key, units] of Object.entries({ sold, held, free: stock, total })) {
    const figure = part(`[data-${key}]`);
    setText(figure, amount(units));
    setAttribute(figure, 'title', amount(units) === count(units) ? null : count(units));
  }
  setAttribute(part('[data-action]'), 'aria-label', `Adjust stock of ${name} (#${id})`);

  drawStock(part('.stock'), product);
  const state = saleState(product, time);
  setAttribute(node, 'data-state', state);
  setText(part('[data-mark]'), MARKS[state]);
  setText(part('[data-hours]'), hours(product, time));
  setText(part('[data-pace]'), [
    pace.sold > 0 ? `${rate(pace.sold)} sold per second` : '',
    product.waiting > 0 ? `${count(product.waiting)} waiting` : '',
    offered > 0 ? `${count(offered)} offered` : '',
  ].filter(Boolean).join(' · '));
}

/** Layers: sold units are drawn over held units, and held units over free units. */
export function drawStock(bar, { held, sold, total }) {
  const soldEnd = end(sold, total);
  const heldEnd = sold + held === total && total > 0 ? 100 : Math.min(soldEnd + end(held, total), 100);
  bar.querySelector('.sold').style.transform = `translateX(${soldEnd - 100}%)`;
  bar.querySelector('.held').style.transform = `translateX(${heldEnd - 100}%)`;
}

/** The width of units in percent. A few units of many still have a visible width. */
const end = (units, total) => (units === 0 ? 0 : Math.max((100 * units) / total, 0.6));

export function saleState({ stock, total, sale_starts_at, sale_ends_at }, time) {
  if (Date.parse(sale_ends_at) <= time) return 'closed';
  if (total === 0) return 'empty';
  if (stock === 0) return 'sold-out';
  return Date.parse(sale_starts_at) > time ? 'not-open' : 'open';
}

/** A time that is not set is NaN, and all comparisons with NaN are false. */
export function hours({ sale_starts_at, sale_ends_at }, time) {
  const [starts, ends] = [Date.parse(sale_starts_at), Date.parse(sale_ends_at)];
  if (ends <= time) return `since ${dayAndTime(ends)}`;
  if (starts > time) return `starts in ${wholeDuration((starts - time) / 1000)}`;
  return ends > time ? `ends in ${wholeDuration((ends - time) / 1000)}` : '';
}

/** Whether the text about the sale changes with time, without a change of the product. */
export const hasHours = ({ sale_starts_at, sale_ends_at }) => Boolean(sale_starts_at ?? sale_ends_at);
