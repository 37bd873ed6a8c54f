// Tests of the time ranges of the chart: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { boundsOf, splitsOf } from './ranges.js';

test('a range ends now and has marks up to now', () => {
  assert.deepEqual(boundsOf('5min', [], 5000), [4700, 5000]);
  assert.deepEqual(boundsOf('hour', [4990], 5000), [1400, 5000]);
  assert.deepEqual(boundsOf('all', [1000], 5000), [1000, 5000]);
  assert.deepEqual(boundsOf('all', [], 5000), [4940, 5000]);
  for (const range of ['5min', 'hour', 'all']) {
    const bounds = boundsOf(range, [1000], 5000);
    const splits = splitsOf(range, bounds);
    assert.deepEqual([splits[0].at, splits.at(-1)], [bounds[0], { at: 5000, words: 'now' }]);
  }
});
