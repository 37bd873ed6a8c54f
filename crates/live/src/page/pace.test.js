// Tests of the rates of single products: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { follow, pace } from './pace.js';

test('the rate is the change in the last 15 seconds', () => {
  let samples = follow([], 0, { sold: 100 });
  assert.deepEqual(pace(samples, 0), { sold: 0 });
  for (let second = 1; second <= 60; second += 1) samples = follow(samples, second * 1000, { sold: 100 + 2 * second });
  const { sold } = pace(samples, 60_000);
  assert.ok(Math.abs(sold - 2) < 0.7, String(sold));
  assert.equal(pace(samples, 75_000).sold, 0);
  assert.deepEqual(pace([], 0), {});
});

test('few samples are kept, and the state five minutes ago can be told', () => {
  let samples = [];
  for (let second = 0; second <= 2000; second += 1) samples = follow(samples, second * 1000, { sold: second });
  assert.ok(samples.length <= 63, String(samples.length));
  assert.equal(samples.at(-1).values.sold, 2000);
  assert.ok(samples[0].at <= 1_700_000 && samples[1].at >= 1_700_000);
});

test('a clock that is set back starts again', () => {
  const samples = follow(follow([], 9000, { sold: 1 }), 1000, { sold: 2 });
  assert.deepEqual(samples, [{ at: 1000, values: { sold: 2 } }]);
});
