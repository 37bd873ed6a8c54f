// Tests of reads of the API: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { nextPage, read } from './read.js';

let token = 'a token';
globalThis.sessionStorage = { getItem: () => token };

test('the next page is what the header says', () => {
  assert.equal(nextPage('</reservations?user_id=7&after_id=9>; rel="next"'), '/reservations?user_id=7&after_id=9');
  assert.equal(nextPage(null), null);
});

test('an answer, a problem, a page of a proxy and no answer are told apart', async () => {
  const problem = { code: 'invalid_query', title: 'No' };
  const answers = {
    '/rows': () => new Response('[1]', { headers: { Link: '</rows?after_id=1>; rel="next"' } }),
    '/refused': () => new Response(JSON.stringify(problem), { status: 400, headers: { 'Content-Type': 'application/problem+json' } }),
    '/proxy': () => new Response('<html>', { status: 502 }),
    '/half': () => new Response('{"half'),
    '/lost': () => { throw new TypeError('network'); },
  };
  let sent;
  globalThis.fetch = async (path, options) => {
    sent = options.headers.Authorization;
    return answers[path]();
  };
  assert.deepEqual(await read('/rows'), { answer: [1], next: '/rows?after_id=1' });
  assert.equal(sent, 'Bearer a token');
  assert.deepEqual(await read('/refused'), { problem, status: 400 });
  assert.equal((await read('/proxy')).problem.code, '502');
  assert.equal((await read('/half')).problem.code, 'no_answer');
  assert.equal((await read('/lost')).problem.code, 'no_answer');
});

test('a 503 is tried again when it says so, until the time is over', async (context) => {
  const pauses = [];
  context.mock.method(globalThis, 'setTimeout', (resume, pause) => {
    pauses.push(pause);
    resume();
  });
  const busy = (after) => new Response('{}', { status: 503, headers: { 'Content-Type': 'application/problem+json', ...after } });
  let answers = [busy({ 'Retry-After': '1' }), busy({ 'Retry-After': '2' }), new Response('[1]')];
  globalThis.fetch = async () => answers.shift();
  assert.deepEqual(await read('/rows'), { answer: [1], next: null });
  assert.deepEqual(pauses, [1000, 2000]);
  // The last of them is after the time, or says nothing of a next try, or there is no answer at all.
  for (const last of [[busy({ 'Retry-After': '60' })], [busy({})], [busy({ 'Retry-After': '1' })]]) {
    answers = last;
    assert.deepEqual(await read('/rows'), { problem: {}, status: 503 });
  }
  assert.deepEqual(pauses, [1000, 2000, 1000]);
});

test('who may see the numbers without a token is told how to read a list that needs a key', async () => {
  const problem = { code: 'unauthorized', title: 'No', detail: 'send an API key' };
  globalThis.fetch = async () =>
    new Response(JSON.stringify(problem), { status: 401, headers: { 'Content-Type': 'application/problem+json' } });
  assert.deepEqual((await read('/rows')).problem, problem);
  token = null;
  const told = (await read('/rows')).problem;
  assert.equal(told.code, 'unauthorized');
  assert.match(told.detail, /Set ADMIN_TOKEN/);
});
