// Tests of the last transitions of a product, and of its address: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { openedProduct, productAddress } from './route.js';
import { transitionsOf } from './transitions.js';

const at = (second) => new Date(second * 1000).toISOString();

test('each transition of a product is there once, newest first', () => {
  const reservations = [
    { id: 9, user_id: 2, quantity: 1, created_at: at(5) },
    { id: 8, user_id: 1, quantity: 3, created_at: at(1), confirmed_at: at(4), returned_at: at(7) },
  ];
  const feed = [
    { product_id: 7, reservation_id: 8, what: 'confirmed', at: at(4), user_id: 1, quantity: 3 },
    { product_id: 7, reservation_id: 9, what: 'extended', at: at(6), user_id: 2, quantity: 1 },
    { product_id: 7, reservation_id: 9, what: 'extended', at: at(8), user_id: 2, quantity: 1 },
    { product_id: 6, reservation_id: 5, what: 'canceled', at: at(9), user_id: 1, quantity: 1 },
    { what: 'expired', at: at(9), count: 3 },
  ];
  const told = transitionsOf(reservations, feed, 7).map(({ what, reservation_id: id, quantity }) => `${what} ${id} ${quantity}`);
  assert.deepEqual(told, ['extended 9 1', 'returned 8 3', 'extended 9 1', 'reserved 9 1', 'confirmed 8 3', 'reserved 8 3']);
});

test('there are few of them', () => {
  const reservations = Array.from({ length: 100 }, (_, id) => ({ id, user_id: 1, quantity: 1, created_at: at(id) }));
  assert.equal(transitionsOf(reservations, [], 7).length, 15);
});

test('only the address of a product opens it', () => {
  assert.equal(openedProduct(productAddress(7)), '7');
  for (const hash of ['', '#', '#/products/', '#/products/0', '#/products/x', '#/products/7/x', '#main']) assert.equal(openedProduct(hash), null);
});
