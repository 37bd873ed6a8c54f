// Tests of the formats of numbers and times: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { amount, duration, milliseconds, plural, rate, share, wholeDuration } from './format.js';

const table = (format, cases) => {
  for (const [given, wanted] of cases) assert.equal(format(given), wanted);
};

test('durations have at most two units', () => table(duration, [
  [0, '0 s'], [0.04, '<1 s'], [0.99, '<1 s'], [1, '1 s'], [4.4, '4 s'], [9.96, '10 s'], [59.6, '1 min'], [125, '2 min 5 s'], [3600, '1 h'],
  [8040, '2 h 14 min'], [86_400 * 1234 + 7200, '1,234 d 2 h'], [-1, '0 s'],
]));

test('whole durations have no tenths', () => table(wholeDuration, [[4.6, '5 s'], [0.3, '0 s'], [61, '1 min 1 s']]));

test('rates are whole, and are never 0 by rounding', () => table(rate, [
  [null, '–'], [0, '0'], [0.01, '<1'], [0.99, '<1'], [1, '1'], [7.34, '7'], [99.96, '100'], [1234.5, '1,235'],
]));

test('short durations are whole milliseconds', () => table(milliseconds, [
  [null, '–'], [0, '0 ms'], [0.0004, '<1 ms'], [0.0034, '3 ms'], [1.234, '1,234 ms'],
]));

test('amounts are in full below ten million', () => table(amount, [[9_999_999, '9,999,999'], [12_345_678, '12.3M'], [2_147_483_647, '2.15B']]));

test('shares are never rounded to nothing or to all', () => {
  assert.equal(share(1, 3), '33%');
  assert.equal(share(0, 3), '0%');
  assert.equal(share(3, 3), '100%');
  assert.equal(share(1, 100_000), '<1%');
  assert.equal(share(99_999, 100_000), '>99%');
  assert.equal(share(0, 0), '–');
});

test('one is singular', () => {
  assert.equal(plural(1, 'hold'), '1 hold');
  assert.equal(plural(0, 'hold'), '0 holds');
  assert.equal(plural(2, 'process', 'processes'), '2 processes');
});
