// The newest transitions. The user can pause the list to read it.

import { byId, fromTemplate, setAttribute, setHidden, setText } from './dom.js';
import { count, plural, timeOfDay } from './format.js';
import { transition } from './words.js';

const SHOWN = 50;

let paused = false;
/** The last drawn state: the number of entries that the feed ever had, and its edition. */
let drawn = 0;
let edition = 0;

export function openFeed(redraw) {
  byId('feed-pause').addEventListener('click', () => {
    paused = !paused;
    setAttribute(byId('feed'), 'data-paused', String(paused));
    redraw();
  });
}

export function drawFeed(model) {
  const news = model.feedCount - drawn;
  setText(byId('feed-pause'), !paused ? 'Pause' : news > 0 ? `Continue (${count(news)} new)` : 'Continue');
  if (paused) return;
  const anew = edition !== model.feedEdition;
  setHidden(byId('feed-none'), model.feed.length > 0);
  if (news === 0 && !anew) return;
  drawn = model.feedCount;
  edition = model.feedEdition;

  const list = byId('feed-list');
  const entries = anew ? model.feed : model.feed.slice(-news);
  if (anew) list.replaceChildren();
  list.prepend(...entries.slice(-SHOWN).reverse().map((entry) => create(entry, model.products)));
  while (list.childElementCount > SHOWN) list.lastElementChild.remove();
}

function create(entry, products) {
  const node = fromTemplate('template-feed');
  node.dataset.what = entry.what;
  const time = node.querySelector('time');
  time.textContent = timeOfDay(entry.at);
  time.dateTime = entry.at;
  node.querySelector('[data-what]').textContent = transition(entry.what);
  node.querySelector('[data-text]').textContent = describe(entry, products);
  return node;
}

function describe({ count: times, reservation_id, product_id, user_id, quantity }, products) {
  const product = product_id === undefined ? null : products.get(product_id)?.name ?? `product ${product_id}`;
  if (reservation_id === undefined) return [plural(times, 'hold'), product].filter((part) => part !== null).join(' of ');
  return [
    product === null ? null : quantity > 1 ? `${count(quantity)} × ${product}` : product,
    user_id === undefined ? null : `user ${user_id}`,
    reservation_id === undefined ? null : `#${reservation_id}`,
  ].filter((part) => part !== null).join(' · ');
}
