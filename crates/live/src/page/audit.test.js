// Tests of the audit texts: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { describe } from './audit.js';

const NOW = Date.parse('2026-11-23T10:00:00Z');
const audit = (age, more = {}) => ({ at: new Date(NOW - age * 1000).toISOString(), products: 12, differences: [], ...more });

test('an audit says when it was made, and that it is old', () => {
  assert.match(describe(audit(125), NOW), /^12 products compared at \d\d:\d\d:\d\d, 2 min 5 s ago\.$/);
  assert.match(describe(audit(420), NOW), /^12 products compared; no audit since \d\d:\d\d:\d\d, 7 min ago\.$/);
});

test('differences that are not shown are counted', () => {
  const differences = Array.from({ length: 20 }, () => ({}));
  assert.match(describe(audit(1, { differences, difference_count: 312 }), NOW), / 20 of 312 shown\.$/);
  assert.doesNotMatch(describe(audit(1, { differences, difference_count: 20 }), NOW), /shown/);
  assert.doesNotMatch(describe(audit(1, { differences }), NOW), /shown/);
});
