// Tests of the long time ranges of the chart: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Trend } from './trend.js';

const START = 1_000_000_000;
const of = (rates) => (name) => rates[name];
const polled = (trend, seconds) => {
  for (let second = 0; second < seconds; second += 1) trend.push(START + second, of({ reserved: second + 1 }));
  return trend;
};
const ends = ({ at }) => at.map((second) => second - START);

test('each point is the mean of its step', () => {
  const trend = polled(new Trend(360, false), 31);
  assert.deepEqual(ends(trend), [10, 20, 30]);
  assert.deepEqual(trend.reserved, [5.5, 15.5, 25.5]);
  assert.deepEqual(trend.failed, [null, null, null]);
});

test('an hour is kept and no more', () => {
  const trend = polled(new Trend(360, false), 8001);
  assert.equal(trend.at.length, 360);
  assert.equal(ends(trend)[0], 8000 - 3590);
});

test('all of a long sale is kept in longer steps', () => {
  for (const [seconds, step] of [[7201, 10], [7300, 20], [14_500, 40], [100_000, 160]]) {
    const trend = polled(new Trend(720, true), seconds);
    assert.equal(trend.stepSeconds, step);
    assert.ok(trend.at.length >= 360 && trend.at.length <= 720);
    ends(trend).forEach((end, index) => {
      assert.equal(end, (index + 1) * step);
      assert.ok(Math.abs(trend.reserved[index] - (end - (step - 1) / 2)) < 1e-6);
    });
  }
});

test('a time without polls is a gap, and a clock that is set back starts again', () => {
  const trend = polled(new Trend(720, true), 10);
  trend.push(START + 100, of({ reserved: 7 }));
  assert.deepEqual(ends(trend), [10, 20]);
  assert.deepEqual(trend.reserved, [5.5, null]);
  trend.push(START + 5, of({ reserved: 7 }));
  trend.push(START + 15, of({ reserved: 8 }));
  assert.deepEqual(ends(trend), [10]);
});

test('the points of an API that was started again go behind what the page knows', () => {
  const trend = polled(new Trend(720, true), 31);
  const given = (at) => ({ step_seconds: 20, at: at.map((second) => START + second), reserved: at, confirmed: at, refused: at, failed: at });
  trend.join(given([20, 40]));
  assert.deepEqual(ends(trend), [10, 20, 40]);
  assert.deepEqual(trend.reserved, [5.5, 20, 40]);
  assert.equal(trend.stepSeconds, 20);
  trend.join(given([]));
  assert.deepEqual(ends(trend), [10, 20, 40]);
  trend.push(START + 61, of({ reserved: 1 }));
  trend.push(START + 81, of({ reserved: 1 }));
  assert.deepEqual(ends(trend), [10, 20, 40, 80]);
});

test('a sale begins with the first request, and with the first one after six hours', () => {
  const trend = new Trend(720, true);
  const poll = (seconds, reserved) => seconds.forEach((second) => trend.push(START + second, of({ reserved })));
  poll([0, 10, 20], 0);
  poll([30, 40], 7);
  poll([50, 21_640], 0);
  assert.deepEqual(ends(trend), [40, 50, 60, 70]);
  poll([21_650], 7);
  poll([21_660], 0);
  assert.deepEqual(ends(trend), [21_660]);
});
