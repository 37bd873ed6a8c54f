// Tests of the page's markup: `node --test`.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

const file = (name) => readFileSync(new URL(name, import.meta.url), 'utf8');
const html = file('index.html');
const ids = [...html.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id);

test('each id is there once', () => {
  assert.deepEqual(ids.filter((id, index) => ids.indexOf(id) !== index), []);
});

test('what the scripts and labels name exists', () => {
  const scripts = readdirSync(new URL('.', import.meta.url)).filter((name) => name.endsWith('.js') && !name.endsWith('.test.js'));
  const named = scripts.flatMap((name) => [...file(name).matchAll(/(?:byId|fromTemplate)\('([^']+)'\)/g)].map(([, id]) => id));
  const labels = [...html.matchAll(/(?:for|aria-labelledby|aria-describedby)="([^"]+)"/g)].flatMap(([, list]) => list.split(' '));
  assert.ok(named.length > 50);
  assert.deepEqual([...new Set([...named, ...labels])].filter((id) => !ids.includes(id)), []);
});
