// The data from the stream. Its size has a limit, however long the stream runs.

import { follow, pace } from './pace.js';
import { Trend } from './trend.js';

const HISTORY_SECONDS = 300;
const GAP_SECONDS = 3;
/**
 * If the server's clock goes back by more than this, the history starts again. After a smaller step, points are
 * skipped until the clock has caught up.
 */
const CLOCK_BACK_SECONDS = 5;
const FEED_ENTRIES = 100;
/** The half-life of a product's activity. */
const ACTIVITY_HALF_LIFE_MS = 10_000;

const SERIES = ['reserved', 'confirmed', 'refused', 'failed', 'lag_seconds', 'depth'];
/** The total of values by code. `null`: the values are unknown. */
export const sum = (byCode) => (byCode === null ? null : Object.values(byCode).reduce((total, value) => total + value, 0));

export class Model {
  /** The last message, without the parts in the fields below. */
  now = null;
  products = new Map();
  feed = [];
  /** The number of entries that the feed ever had, and how often the whole feed was replaced. */
  feedCount = 0;
  feedEdition = 0;
  history = emptyHistory();
  /** The longer time ranges of the chart. */
  trends = emptyTrends();
  /** By product: the number of holds that were ever offered to its waitlist. */
  offered = new Map();
  /** Samples of the offers of all products. */
  #offers = [];
  /** Ids of the products to draw again. `null`: all. */
  #changed = null;
  #clockAhead = 0;

  clear() {
    this.now = null;
    this.products.clear();
    this.feed = [];
    this.history = emptyHistory();
    this.trends = emptyTrends();
    this.offered.clear();
    this.#offers = [];
    this.#changed = null;
  }

  apply(type, message) {
    const { products, offered, feed, history, trends, ...now } = message;
    if (type !== 'state' && this.now === null) return;
    this.#clockAhead = Date.parse(now.at) - Date.now();
    if (type === 'state') this.#replace(products, feed, history, trends);
    else this.#update(products, feed, now);
    this.now = now;
    this.#prune(now.products_shown);
    this.#offer(type, offered);
  }

  /** A product by its id, which may be text. */
  product(id) {
    return this.products.get(Number(id)) ?? this.products.get(id);
  }

  /** The changes of a product's numbers per second. */
  pace(product) {
    return pace(product.samples, this.time());
  }

  /** Holds that were offered to all waitlists, per second. */
  offersPerSecond() {
    return pace(this.#offers, this.time()).holds ?? 0;
  }

  /** The time by the server's clock, because the clock of the viewer's computer may be wrong. */
  time() {
    return Date.now() + this.#clockAhead;
  }

  /** The products that changed since the last call. */
  takeChanged() {
    const changed = this.#changed ?? new Set(this.products.keys());
    this.#changed = new Set();
    return changed;
  }

  activity(product) {
    const age = Date.now() - product.activeAt;
    return product.activity * 2 ** (-age / ACTIVITY_HALF_LIFE_MS);
  }

  #replace(products, feed, history, trends) {
    const before = this.products;
    this.products = new Map();
    for (const product of products) this.#put(product, before.get(product.id));
    this.#changed = null;
    const newest = this.feed.at(-1)?.at ?? '';
    this.feedCount += feed.filter(({ at }) => at > newest).length;
    this.feedEdition += 1;
    this.feed = feed.slice(-FEED_ENTRIES);
    this.#join(history);
    for (const range of Object.keys(this.trends)) this.trends[range].join(trends[range]);
  }

  #update(products, feed, now) {
    for (const product of products) {
      this.#put(product, this.products.get(product.id));
      this.#changed?.add(product.id);
    }
    this.feed = [...this.feed, ...feed].slice(-FEED_ENTRIES);
    this.feedCount += feed.length;
    this.#lengthen(now);
  }

  /** A restarted API has only a short history, so the older points of this page stay. */
  #join(history) {
    const seen = this.history;
    const begins = history.at[0] ?? Infinity;
    this.history = emptyHistory();
    for (const [part, wanted] of [[seen, (second) => second < begins], [history, () => true]]) {
      part.at.forEach((second, index) => wanted(second) && this.#append(second, (name) => part[name]?.[index]));
    }
    this.#bound();
  }

  #put(product, before) {
    const moved = before === undefined
      ? 0
      : Math.abs(product.stock - before.stock) + Math.abs(product.held - before.held) + Math.abs(product.sold - before.sold);
    product.activity = (before === undefined ? 0 : this.activity(before)) + moved;
    product.activeAt = Date.now();
    const { held, sold } = product;
    product.samples = follow(before?.samples ?? [], this.time(), { sold, taken: held + sold });
    this.products.set(product.id, product);
  }

  #lengthen({ at, rates, expiry, outbox }) {
    const second = Date.parse(at) / 1000;
    // While PostgreSQL is down, the message repeats the last known values. They are not new points.
    const values = rates === null ? {} : {
      reserved: rates.reserved,
      confirmed: rates.confirmed,
      refused: sum(rates.refused),
      failed: sum(rates.failed),
      lag_seconds: expiry.lag_seconds,
      depth: outbox.depth,
    };
    this.#append(second, (name) => values[name]);
    this.#bound();
    for (const trend of Object.values(this.trends)) trend.push(second, (name) => values[name]);
  }

  #append(second, valueOf) {
    const back = (this.history.at.at(-1) ?? 0) - second;
    if (back > CLOCK_BACK_SECONDS) this.history = emptyHistory();
    else if (back >= 0) return;
    const { at } = this.history;
    // A null makes a gap in the chart, so that no line is drawn over a time without data.
    if (at.length > 0 && second - at.at(-1) > GAP_SECONDS) {
      at.push(at.at(-1) + 1);
      for (const name of SERIES) this.history[name].push(null);
    }
    at.push(second);
    for (const name of SERIES) this.history[name].push(valueOf(name) ?? null);
  }

  #bound() {
    const { at } = this.history;
    const oldest = (at.at(-1) ?? 0) - HISTORY_SECONDS;
    const old = at.findIndex((second) => second >= oldest);
    if (old > 0) for (const name of ['at', ...SERIES]) this.history[name].splice(0, old);
  }

  /** If only the newest products are shown, removes the products that newer ones have replaced. */
  #prune(shown) {
    const most = Number(/^newest (\d+)$/.exec(shown)?.[1] ?? Infinity);
    if (this.products.size <= most) return;
    const ids = [...this.products.keys()].sort((one, other) => one - other);
    for (const id of ids.slice(0, ids.length - most)) this.products.delete(id);
  }

  #offer(type, offered) {
    if (type === 'state') this.offered.clear();
    for (const { product_id: id, holds } of offered) {
      this.offered.set(id, holds);
      this.#changed?.add(id);
    }
    for (const id of this.offered.keys()) if (!this.products.has(id)) this.offered.delete(id);
    const holds = [...this.offered.values()].reduce((total, each) => total + each, 0);
    this.#offers = follow(this.#offers, this.time(), { holds });
  }
}

function emptyHistory() {
  return Object.fromEntries(['at', ...SERIES].map((name) => [name, []]));
}

function emptyTrends() {
  return { hour: new Trend(360, false), all: new Trend(720, true) };
}
