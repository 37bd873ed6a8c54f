// Tests of the status at the top of the page: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { assess } from './health.js';

const NOW = Date.parse('2026-11-23T10:00:00Z');
const seen = ({ alerts = [], servers = {}, audit = null } = {}) => ({
  now: {
    at: new Date(NOW).toISOString(),
    alerts,
    servers: { postgres: 'up', redis: 'up', rabbitmq: 'up', ...servers },
    processes: [],
    audit,
  },
  products: new Map(),
  time: () => NOW,
});
const live = { phase: 'live', silent: false, problem: null };

test('all is well only while every server that is known answers', () => {
  assert.equal(assess(seen(), live).health, 'well');
  assert.equal(assess(seen({ servers: { rabbitmq: 'unknown' } }), live).health, 'well');
  for (const [server, title, health] of [
    ['postgres', 'PostgreSQL does not answer', 'critical'],
    ['redis', 'Redis does not answer', 'warning'],
    ['rabbitmq', 'RabbitMQ does not answer', 'warning'],
  ]) {
    const verdict = assess(seen({ servers: { [server]: 'down' } }), live);
    assert.equal(verdict.health, health);
    assert.equal(verdict.title, title);
  }
  assert.equal(assess(seen({ servers: { postgres: 'down', redis: 'down' } }), live).title, 'PostgreSQL and Redis do not answer');
});

test('an alert of any code is what is wrong', () => {
  const alert = { code: 'never_heard_of', title: 'Something is odd', meaning: '…', action: '…' };
  const verdict = assess(seen({ alerts: [alert], servers: { redis: 'down' } }), live);
  assert.deepEqual([verdict.health, verdict.title], ['critical', 'Something is odd']);
});

test('only an alert about lost sales or wrong numbers is critical', () => {
  const alert = (severity) => ({ code: severity, severity, title: severity, meaning: '…', action: '…' });
  const told = (...severities) => {
    const { health, short } = assess(seen({ alerts: severities.map(alert) }), live);
    return [health, short];
  };
  assert.deepEqual(told('warning'), ['warning', '1 warning']);
  assert.deepEqual(told('critical', 'warning', 'warning'), ['critical', '1 critical alert, 2 warnings']);
});

test('a hidden tab that asks for nothing claims nothing', () => {
  for (const model of [seen(), { now: null }]) {
    const verdict = assess(model, { phase: 'paused', silent: true, newsAt: 0, problem: null });
    assert.deepEqual([verdict.health, verdict.short], ['unknown', 'Paused']);
  }
});

test('an inventory that was not audited for five minutes is not called consistent', () => {
  const at = (seconds) => ({ at: new Date(NOW - seconds * 1000).toISOString(), clean: true, products: 1, differences: [] });
  assert.match(assess(seen({ audit: at(299) }), live).text, /inventory consistent/);
  assert.match(assess(seen({ audit: at(301) }), live).text, /inventory not audited since \d\d:\d\d:\d\d/);
});
