// Tests of the parser of the stream: `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EventParser, parseData } from './sse.js';

const bytes = (text) => new TextEncoder().encode(text);
const parse = (...chunks) => {
  const parser = new EventParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
};

test('an event has its id, its type and its data', () => {
  assert.deepEqual(parse(bytes('id: 7\nevent: tick\ndata: {"a":1}\n\n')), [
    { id: '7', type: 'tick', data: '{"a":1}' },
  ]);
});

test('a stream may be split after any byte, and its lines may end in any way', () => {
  for (const end of ['\n', '\r\n', '\r']) {
    const text = ['id: 1', 'event: state', 'data: {"name":"Größe 👟 – ✓"}', '', ': beat', '',
      'id: 2', 'event: tick', 'data: {}', '', 'data: last', '', ''].join(end);
    const whole = parse(bytes(text));
    assert.deepEqual(whole.map((event) => event.data), ['{"name":"Größe 👟 – ✓"}', '{}', 'last']);
    assert.deepEqual(whole.map((event) => event.type), ['state', 'tick', 'message']);
    const all = bytes(text);
    assert.deepEqual(parse(...Array.from(all, (byte) => Uint8Array.of(byte))), whole);
    for (let at = 0; at <= all.length; at += 1) {
      assert.deepEqual(parse(all.slice(0, at), all.slice(at)), whole, `split at ${at}`);
    }
  }
});

test('an id stays until another comes', () => {
  const ids = parse(bytes('id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n')).map((event) => event.id);
  assert.deepEqual(ids, ['1', '1', '2']);
});

test('several data lines are one event, and one space after the colon is no data', () => {
  assert.deepEqual(parse(bytes('data:a\ndata:  b\ndata\n\n')).map((event) => event.data), ['a\n b\n']);
});

test('what is no event is passed over', () => {
  assert.deepEqual(parse(bytes('\uFEFF: comment\nretry: 10\nunknown: x\n\nevent: tick\n\n')), []);
  assert.deepEqual(parse(bytes('data: not complete')), []);
});

const TELLS_SOURCE = JSON.parse('1', (_, value, context) => context?.source === '1');

test('an id that no number holds exactly is told as it is written', { skip: !TELLS_SOURCE }, () => {
  const { feed } = parseData('{"feed":[{"user_id":9223372036854775807,"product_id":7,"reservation_id":9007199254740993,"count":1e3}]}');
  assert.deepEqual(feed, [{ user_id: '9223372036854775807', product_id: 7, reservation_id: '9007199254740993', count: 1000 }]);
});

test('where a browser does not tell the source, all else is read', () => {
  assert.deepEqual(parseData('{"user_id":42,"product_id":null,"lag":0.5}'), { user_id: 42, product_id: null, lag: 0.5 });
});
