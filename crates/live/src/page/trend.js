// A long time range of the chart: means of the polls of each step. It does the same as the server (trend.rs), so that the
// page continues what the server sent.

export const RATES = ['reserved', 'confirmed', 'refused', 'failed'];

/** A sale begins with the first request after a pause of this length. */
const PAUSE_SECONDS = 6 * 3600;
const STEP_SECONDS = 10;

export class Trend {
  at = [];
  stepSeconds = STEP_SECONDS;
  /** The last time with a request. `null`: there was none. */
  #activeAt = null;
  #max;
  #halves;
  /** The step that polls are added to: its number, and a weighted sum for each rate. */
  #open = null;

  /**
   * Has at most `max` points. Then it forgets the oldest one or, if it `halves`, makes one point of two. One that halves is
   * the trend of a sale.
   */
  constructor(max, halves) {
    this.#max = max;
    this.#halves = halves;
    for (const name of RATES) this[name] = [];
  }

  /** Adds the rates of a poll. `null` is not known. */
  push(second, valueOf) {
    const backwards = this.#open !== null && this.#number(second) < this.#open.number;
    const begins = this.#begins(second, valueOf) && this.#halves;
    if (backwards || begins) this.#clear(STEP_SECONDS);
    const open = this.#open;
    if (open !== null && open.number !== this.#number(second)) {
      this.#open = null;
      this.#append(open);
      // Nothing is known of the steps between, so no line may be drawn over them.
      if (this.#number(second) > open.number + 1) this.#append(emptyStep(open.number + 1));
      this.#bound(second);
    }
    this.#open ??= emptyStep(this.#number(second));
    add(this.#open, valueOf, 1);
  }

  /** Takes over the server's points. Points of this page that are older stay. */
  join(given) {
    const begins = given.at[0] ?? Infinity;
    const end = given.at.at(-1) ?? -Infinity;
    const kept = this.at.filter((second) => second < begins).length;
    const later = end === -Infinity ? [] : this.at.map((second, index) => index).filter((index) => this.at[index] > end);
    const merge = (mine, theirs) => [...mine.slice(0, kept), ...theirs, ...later.map((index) => mine[index])];
    for (const name of RATES) this[name] = merge(this[name], given[name]);
    this.at = merge(this.at, given.at);
    this.stepSeconds = Math.max(this.stepSeconds, given.step_seconds);
    this.#open = null;
    this.#activeAt = this.at.findLast((_, index) => RATES.some((name) => this[name][index] > 0)) ?? null;
    this.#bound(this.at.at(-1) ?? 0);
  }

  /** Whether a sale begins now. */
  #begins(second, valueOf) {
    if (!RATES.some((name) => valueOf(name) > 0)) return false;
    const begins = this.#activeAt === null || second - this.#activeAt > PAUSE_SECONDS;
    this.#activeAt = second;
    return begins;
  }

  #number(second) {
    return Math.floor(second / this.stepSeconds);
  }

  #clear(stepSeconds) {
    this.stepSeconds = stepSeconds;
    this.at = [];
    for (const name of RATES) this[name] = [];
    this.#open = null;
  }

  #append(step) {
    this.at.push((step.number + 1) * this.stepSeconds);
    for (const name of RATES) this[name].push(mean(step.sums[name]));
  }

  #bound(now) {
    while (this.at.length > this.#max) {
      if (this.#halves) this.#halve(now);
      else for (const name of ['at', ...RATES]) this[name].shift();
    }
  }

  /** Doubles the length of the steps. A long step that is not over `now` stays open. */
  #halve(now) {
    const before = { at: this.at, ...Object.fromEntries(RATES.map((name) => [name, this[name]])) };
    const short = this.stepSeconds;
    this.#clear(2 * short);
    before.at.forEach((end, index) => {
      const number = this.#number(end - short / 2);
      if (this.#open !== null && this.#open.number !== number) {
        this.#append(this.#open);
        this.#open = null;
      }
      this.#open ??= emptyStep(number);
      add(this.#open, (name) => before[name][index], short);
    });
    if (this.#open.number === this.#number(now)) return;
    this.#append(this.#open);
    this.#open = null;
  }
}

const emptyStep = (number) => ({ number, sums: Object.fromEntries(RATES.map((name) => [name, { sum: 0, weight: 0 }])) });

function add(step, valueOf, weight) {
  for (const name of RATES) {
    const value = valueOf(name) ?? null;
    if (value === null) continue;
    step.sums[name].sum += weight * value;
    step.sums[name].weight += weight;
  }
}

const mean = ({ sum, weight }) => (weight > 0 ? sum / weight : null);
