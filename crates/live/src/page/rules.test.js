// Tests of the form that changes the rules of a product: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { changesOf, fillRules } from './rules.js';

const product = {
  id: 7, name: 'Lamp', max_per_user: 2, hold_seconds: 60, sale_starts_at: '2026-11-27T12:00:00.5Z', sale_ends_at: '2026-11-27T13:00:00Z',
};
const form = () => {
  const names = ['name', 'max_per_user', 'hold_seconds', 'max_hold_seconds', 'sale_starts_at', 'sale_ends_at'];
  // A field turns every value into text.
  const field = () => {
    let text = '';
    return { get value() { return text; }, set value(given) { text = String(given); } };
  };
  return Object.fromEntries(names.map((name) => [name, field()]));
};

test('only what was changed is sent', () => {
  const fields = form();
  fillRules(fields, product);
  assert.deepEqual(changesOf(fields, product), {});
  fields.hold_seconds.value = '90';
  fields.max_hold_seconds.value = '900';
  fields.name.value = ' Lamp, red ';
  assert.deepEqual(changesOf(fields, product), { name: 'Lamp, red', hold_seconds: 90, max_hold_seconds: 900 });
});

test('an empty field removes its rule, and a new time is sent as a whole', () => {
  const fields = form();
  fillRules(fields, product);
  fields.max_per_user.value = '';
  fields.sale_starts_at.value = '';
  fields.sale_ends_at.value = '2026-11-28T08:30';
  assert.deepEqual(changesOf(fields, product), {
    max_per_user: null, sale_starts_at: null, sale_ends_at: new Date('2026-11-28T08:30').toISOString(),
  });
});

test('a browser that leaves out the seconds changes nothing', () => {
  const fields = form();
  const whole = { ...product, sale_starts_at: undefined, sale_ends_at: '2026-11-27T13:00:00Z' };
  fillRules(fields, whole);
  fields.sale_ends_at.value = fields.sale_ends_at.value.slice(0, 16);
  assert.deepEqual(changesOf(fields, whole), {});
});
