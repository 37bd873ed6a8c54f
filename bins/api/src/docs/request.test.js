import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readable, requestOf } from './request.js';

const page = 'https://shop.example/flash/docs#reserveProduct';
const field = (name, place, value) => ({ name, place, value });

test('fields become parts of the request, and empty fields do not', () => {
  const fields = [
    field('id', 'path', 'a/b'),
    field('limit', 'query', '5'),
    field('after_id', 'query', ''),
    field('Idempotency-Key', 'header', 'k 1'),
    field('X-Request-Id', 'header', ''),
  ];
  const { url, options } = requestOf({ method: 'get', path: '/products/{id}', fields, body: '', secret: '' }, page);
  assert.equal(url.href, 'https://shop.example/flash/products/a%2Fb?limit=5');
  assert.equal(options.method, 'GET');
  assert.deepEqual([...options.headers], [['idempotency-key', 'k 1']]);
  assert.equal(options.body, undefined);
});

test('a body is JSON, and a secret is a bearer token', () => {
  const { url, options } = requestOf({ method: 'post', path: '/products', fields: [], body: '{}', secret: 's' }, page);
  assert.equal(url.pathname, '/flash/products');
  assert.equal(options.headers.get('Content-Type'), 'application/json');
  assert.equal(options.headers.get('Authorization'), 'Bearer s');
  assert.equal(options.body, '{}');
});

test('JSON is indented, unless a number would change', () => {
  assert.equal(readable('{"id":1}'), '{\n  "id": 1\n}');
  for (const text of ['{"id":9223372036854775807}', 'no JSON', '']) assert.equal(readable(text), text);
});
