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
