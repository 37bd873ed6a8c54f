// The waitlists of all products: how many wait, what was offered, and the longest lines.

import { byId, setHidden, setText, table, make } from './dom.js';
import { amount, rate } from './format.js';
import { productAddress } from './route.js';

const SHOWN = 5;

let drawn = '';

export function drawWaitlists(model) {
  const { products, offered } = model;
  const sum = (values) => values.reduce((total, each) => total + each, 0);
  const waiting = [...products.values()].filter((product) => product.waiting > 0);
  setText(byId('waitlists-waiting'), amount(sum(waiting.map((product) => product.waiting))));
  setText(byId('waitlists-offered'), amount(sum([...offered.values()])));
  setText(byId('waitlists-offered-rate'), rate(Math.max(model.offersPerSecond(), 0)));
  setText(byId('waitlists-lines'), amount(waiting.length));

  const ids = [...products.keys()].filter((id) => products.get(id).waiting > 0 || offered.has(id));
  const line = (id) => products.get(id).waiting ?? 0;
  ids.sort((one, other) => line(other) - line(one) || (offered.get(other) ?? 0) - (offered.get(one) ?? 0) || one - other);
  const rows = ids.slice(0, SHOWN).map((id) => [id, products.get(id).name, amount(line(id)), amount(offered.get(id) ?? 0)]);
  setHidden(byId('waitlists-none'), rows.length > 0);
  setHidden(byId('waitlists-list'), rows.length === 0);
  const state = JSON.stringify(rows);
  if (state === drawn) return;
  drawn = state;
  const link = (id, textContent) => make('a', { href: productAddress(id), textContent });
  byId('waitlists-list').replaceChildren(table(['Product', 'Waiting', 'Offered'], rows.map(([id, name, ...numbers]) => [link(id, name), ...numbers])));
}
