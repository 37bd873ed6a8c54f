// Tests of the page's data, message by message: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Model } from './model.js';

const product = (id, numbers = {}) => ({ id, name: `product ${id}`, stock: 10, held: 0, sold: 0, total: 10, ...numbers });
const entry = (second) => ({ at: at(second), what: 'reserved', count: 1 });
const at = (second) => new Date(second * 1000).toISOString();
const series = (seconds) => ({
  at: seconds,
  ...Object.fromEntries(['reserved', 'confirmed', 'refused', 'failed', 'lag_seconds', 'depth'].map((name) => [name, seconds.map(() => 1)])),
});
const RATES = (second) => ({ reserved: second, confirmed: 2, refused: { sold_out: 3, already_reserved: 4 }, failed: {} });
const trend = () => ({ step_seconds: 10, at: [], reserved: [], confirmed: [], refused: [], failed: [] });
const message = (second, { products = [], offered = [], feed = [], shown = 'all', history, rates = RATES(second) } = {}) => ({
  at: at(second),
  rates,
  expiry: { lag_seconds: 0 },
  outbox: { depth: 0 },
  products_shown: shown,
  products,
  offered,
  feed,
  ...(history && { history, trends: { hour: trend(), all: trend() } }),
});

const begun = (options) => {
  const model = new Model();
  model.apply('state', message(1000, { history: series([999, 1000]), ...options }));
  return model;
};

test('a tick changes the products that it names, and only they are drawn again', () => {
  const model = begun({ products: [product(1), product(2)] });
  assert.deepEqual([...model.takeChanged()], [1, 2]);
  model.apply('tick', message(1001, { products: [product(2, { stock: 7, held: 3 })] }));
  assert.deepEqual([...model.takeChanged()], [2]);
  assert.equal(model.products.get(1).stock, 10);
  assert.equal(model.products.get(2).held, 3);
  assert.ok(model.activity(model.products.get(2)) > model.activity(model.products.get(1)));
});

test('a state replaces everything, also what is no longer there', () => {
  const model = begun({ products: [product(1), product(2)] });
  model.apply('state', message(1001, { products: [product(2)], history: series([1000, 1001]) }));
  assert.deepEqual([...model.products.keys()], [2]);
});

test('where the newest are shown, the oldest goes when another comes', () => {
  const model = begun({ products: [product(1), product(2)], shown: 'newest 2' });
  model.apply('tick', message(1001, { products: [product(3)], shown: 'newest 2' }));
  assert.deepEqual([...model.products.keys()], [2, 3]);
});

test('a tick before the first state is passed over', () => {
  const model = new Model();
  model.apply('tick', message(1000, { products: [product(1)] }));
  assert.equal(model.now, null);
  assert.equal(model.products.size, 0);
});

test('the history grows by each tick, sums the refusals, and keeps five minutes', () => {
  const model = begun();
  for (let second = 1001; second <= 2000; second += 1) model.apply('tick', message(second));
  const { history } = model;
  assert.equal(history.at.at(-1), 2000);
  assert.equal(history.at.at(0), 1700);
  assert.equal(history.refused.at(-1), 7);
  assert.equal(history.depth.length, history.at.length);
});

test('what nobody saw is a gap', () => {
  const model = begun();
  model.apply('tick', message(1060));
  assert.deepEqual(model.history.at, [999, 1000, 1001, 1060]);
  assert.deepEqual(model.history.reserved, [1, 1, null, 1060]);
});

test('what the service does not know is not 0', () => {
  const model = begun();
  model.apply('tick', message(1001, { rates: null }));
  assert.equal(model.now.rates, null);
  for (const name of ['reserved', 'confirmed', 'refused', 'failed', 'lag_seconds', 'depth']) {
    assert.deepEqual(model.history[name], [1, 1, null], name);
  }
});

test('where the clock is set back, the history begins anew; a small step is waited for', () => {
  const model = begun();
  model.apply('tick', message(998));
  assert.deepEqual(model.history.at, [999, 1000]);
  model.apply('tick', message(900));
  model.apply('tick', message(901));
  assert.deepEqual(model.history.at, [900, 901]);
  assert.deepEqual(model.history.reserved, [900, 901]);
  model.apply('state', message(801, { history: series([990, 991, 800, 801]) }));
  assert.deepEqual(model.history.at, [800, 801]);
});

test('the history of an API that was started anew goes behind what was seen before', () => {
  const model = begun();
  model.apply('state', message(1011, { history: series([1010, 1011]) }));
  assert.deepEqual(model.history.at, [999, 1000, 1001, 1010, 1011]);
});

test('the longer ranges grow by each tick', () => {
  const model = begun();
  for (let second = 1001; second <= 1100; second += 1) model.apply('tick', message(second));
  for (const range of ['hour', 'all']) {
    const { at, reserved, refused } = model.trends[range];
    assert.deepEqual(at, [1010, 1020, 1030, 1040, 1050, 1060, 1070, 1080, 1090, 1100]);
    assert.equal(reserved[1], 1014.5);
    assert.equal(refused[1], 7);
  }
});

test('offers are known by product, and a tick has only what changed', () => {
  const model = begun({ products: [product(1), product(2)], offered: [{ product_id: 1, holds: 3 }] });
  model.takeChanged();
  model.apply('tick', message(1001, { offered: [{ product_id: 2, holds: 1 }, { product_id: 7, holds: 9 }] }));
  assert.deepEqual([...model.offered], [[1, 3], [2, 1]]);
  assert.deepEqual([...model.takeChanged()].filter((id) => model.products.has(id)), [2]);
  model.apply('state', message(1002, { products: [product(2)], history: series([1002]), offered: [{ product_id: 2, holds: 1 }] }));
  assert.deepEqual([...model.offered], [[2, 1]]);
});

test('a product has its pace, also after a new state', () => {
  const model = begun({ products: [product(1)] });
  model.apply('tick', message(1005, { products: [product(1, { stock: 5, held: 2, sold: 3 })] }));
  model.apply('state', message(1010, { history: series([1010]), products: [product(1, { stock: 4, held: 0, sold: 6 })] }));
  const { sold, taken } = model.pace(model.product('1'));
  assert.ok(Math.abs(sold - 0.6) < 0.01 && Math.abs(taken - 0.6) < 0.01, `${sold} ${taken}`);
});

test('the feed is bounded, and counts what is new', () => {
  const model = begun({ feed: [entry(999), entry(1000)] });
  assert.equal(model.feedCount, 2);
  model.apply('state', message(1001, { feed: [entry(1000), entry(1001)], history: series([1001]) }));
  assert.equal(model.feedCount, 3);
  for (let second = 1002; second <= 2000; second += 1) model.apply('tick', message(second, { feed: [entry(second)] }));
  assert.equal(model.feed.length, 100);
  assert.equal(model.feed.at(-1).at, at(2000));
});
