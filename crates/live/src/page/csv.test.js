// Tests of exported tables: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fileName, toCsv } from './csv.js';

test('texts are quoted where CSV needs it, and numbers are plain', () => {
  assert.equal(
    toCsv(['name', 'free', 'per second'], [['Lamp, "red"', 1200, 1.23456], ['two\nlines', 0, null], ['Ä', -3, undefined]]),
    'name,free,per second\r\n"Lamp, ""red""",1200,1.235\r\n"two\nlines",0,\r\nÄ,-3,\r\n',
  );
});

test('no text is a formula', () => {
  for (const text of ['=1+1', '+1', '-1', '@SUM(A1)', '\tx']) assert.equal(toCsv(['name'], [[text]]), `name\r\n'${text}\r\n`);
  assert.equal(toCsv(['name'], [['a=b']]), 'name\r\na=b\r\n');
});

test('a file is named by what it is and when it was made', () => {
  assert.equal(fileName('products', Date.parse('2026-11-27T12:00:01.5Z')), 'products-2026-11-27T12-00-01.csv');
});
