// Tests of the stream's connection: `node --test`.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';

import { phaseOf, Stream } from './stream.js';

test('only the service itself says that there are too many viewers', () => {
  assert.equal(phaseOf(429, { code: 'too_many_viewers' }), 'crowded');
  assert.equal(phaseOf(503, { code: 'overloaded' }), 'lost');
  assert.equal(phaseOf(503, { title: 'The answer was 503', status: 503 }), 'lost');
  assert.equal(phaseOf(429, { title: 'The answer was 429', status: 429 }), 'lost');
  assert.equal(phaseOf(401, { code: 'unauthorized' }), 'unauthorized');
  assert.equal(phaseOf(403, { code: 'forbidden' }), 'forbidden');
});

/** Waits until all pending promises are settled. */
const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
};

let requests;
let page;
let phases;

beforeEach(() => {
  mock.timers.enable({ apis: ['setInterval', 'setTimeout', 'Date'], now: 1_000_000 });
  requests = [];
  phases = [];
  page = Object.assign(new EventTarget(), { hidden: false });
  Object.assign(globalThis, {
    document: page,
    window: new EventTarget(),
    sessionStorage: { getItem: () => null },
    fetch(_, { headers, signal }) {
      const body = new TransformStream();
      const writer = body.writable.getWriter();
      signal.addEventListener('abort', () => writer.abort().catch(() => {}));
      // The server may not know yet that the client has disconnected.
      const send = (id) => writer.write(new TextEncoder().encode(`id: ${id}\nevent: tick\ndata: {}\n\n`)).catch(() => {});
      requests.push({ headers, signal, send });
      return Promise.resolve({ ok: true, body: body.readable });
    },
  });
});
afterEach(() => mock.timers.reset());

const show = (hidden) => {
  page.hidden = hidden;
  page.dispatchEvent(new Event('visibilitychange'));
};
const seconds = async (number) => {
  for (let second = 0; second < number; second += 1) {
    requests.at(-1).send(String(100 + second));
    await settle();
    mock.timers.tick(1000);
    await settle();
  }
};

test('a tab that is hidden for long gives its connection up, and comes back where it was', async () => {
  const stream = new Stream({ onEvent() {}, onChange: () => phases.at(-1) === stream.phase || phases.push(stream.phase) });
  stream.start();
  await seconds(5);
  show(true);
  await seconds(29);
  show(false);
  await seconds(5);
  assert.equal(requests.length, 1, 'a look at another tab changes nothing');

  show(true);
  await seconds(31);
  assert.equal(requests[0].signal.aborted, true);
  mock.timers.tick(600_000);
  globalThis.window.dispatchEvent(new Event('online'));
  await settle();
  assert.equal(requests.length, 1, 'nobody looks');

  show(false);
  await settle();
  assert.equal(requests.length, 2);
  assert.match(requests[1].headers['Last-Event-ID'], /^1\d\d$/);
  assert.equal(stream.phase, 'paused');
  await seconds(1);
  assert.deepEqual(phases, ['connecting', 'live', 'paused', 'live']);
});
