// Rates per second: the large numbers, and the reasons of refusals and failures.

import { byId, fromTemplate, keepInStep, setAttribute, setHidden, setText } from './dom.js';
import { milliseconds, rate, UNKNOWN } from './format.js';
import { sum } from './model.js';
import { failure, refusal } from './words.js';

/** The rates while PostgreSQL is down: they are unknown. */
const NONE_KNOWN = { reserved: null, confirmed: null, refused: null, failed: null };

/** A reason stays in the list for this long after its last request, so that the list does not change all the time. */
const REMEMBERED_MS = 300_000;

export function drawRates({ now }) {
  const rates = now.rates ?? NONE_KNOWN;
  const failed = sum(rates.failed);
  setText(byId('rate-reserved'), rate(rates.reserved));
  setText(byId('rate-confirmed'), rate(rates.confirmed));
  setText(byId('rate-refused'), rate(sum(rates.refused)));
  setText(byId('rate-failed'), rate(failed));
  setAttribute(byId('failures-figure'), 'data-failing', String(failed > 0));
  setText(byId('latency-p50'), milliseconds(now.reserve_seconds?.p50 ?? null));
  setText(byId('latency-p99'), milliseconds(now.reserve_seconds?.p99 ?? null));
  refusals.draw(rates.refused);
  failures.draw(rates.failed);
}

class Reasons {
  #list;
  #none;
  #noneText;
  #words;
  #nodes = new Map();
  /**
   * By code: the last time, and the total so far. The list is ordered by the total, which seldom changes the
   * order.
   */
  #known = new Map();

  constructor(name, words) {
    this.#list = byId(`${name}-list`);
    this.#none = byId(`${name}-none`);
    this.#noneText = this.#none.textContent;
    this.#words = words;
  }

  /** `rates` by code. `null`: they are unknown. */
  draw(rates) {
    const time = Date.now();
    for (const [code, value] of Object.entries(rates ?? {})) {
      if (value > 0) this.#known.set(code, { at: time, total: (this.#known.get(code)?.total ?? 0) + value });
    }
    for (const [code, { at }] of this.#known) if (time - at > REMEMBERED_MS) this.#known.delete(code);

    const codes = [...this.#known.keys()].sort((one, other) => this.#known.get(other).total - this.#known.get(one).total);
    const most = Math.max(...codes.map((code) => rates?.[code] ?? 0), 0);
    setHidden(this.#none, codes.length > 0);
    setAttribute(this.#none, 'data-unknown', String(rates === null));
    setText(this.#none, rates === null ? UNKNOWN : this.#noneText);
    keepInStep(this.#list, this.#nodes, codes, (code) => this.#create(code));
    for (const code of codes) {
      const node = this.#nodes.get(code);
      const value = rates === null ? null : rates[code] ?? 0;
      setText(node.querySelector('[data-rate]'), rate(value));
      setAttribute(node, 'data-quiet', String(!(value > 0)));
      node.querySelector('.bar i').style.transform = `scaleX(${most > 0 ? value / most : 0})`;
    }
  }

  #create(code) {
    const node = fromTemplate('template-reason');
    node.dataset.code = code;
    node.querySelector('[data-words]').textContent = this.#words(code);
    node.querySelector('[data-code]').textContent = code;
    return node;
  }
}

const refusals = new Reasons('refusals', refusal);
const failures = new Reasons('failures', failure);
