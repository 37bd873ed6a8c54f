// Formats numbers, times and durations for people.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const minutes = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

/** The text for an unknown value. */
export const UNKNOWN = '–';

export const count = (value) => whole.format(value);
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** All digits below ten million, a short form above: `12.3M`. */
export const amount = (value) => (Math.abs(value) < 1e7 ? whole.format(value) : compact.format(value));

/** A whole rate per second. `null` is an unknown rate. */
export function rate(value) {
  if (value === null) return UNKNOWN;
  return value > 0 && value < 1 ? '<1' : amount(value);
}

/** A short form for the axis of the chart. */
export const short = (value) => (value < 10 ? String(value) : compact.format(value));

export function share(part, all) {
  if (!(all > 0)) return UNKNOWN;
  const percent = (100 * part) / all;
  if (percent > 0 && percent < 1) return '<1%';
  if (percent > 99 && percent < 100) return '>99%';
  return `${whole.format(percent)}%`;
}

const UNITS = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]];

/** A measured duration, in seconds: `0 s`, `<1 s`, `4 s`, `3 min 5 s`. */
export const duration = (seconds) => (seconds > 0 && seconds < 1 ? '<1 s' : wholeDuration(seconds));

/** A short duration, given in seconds, in whole milliseconds. `null` is an unknown one. */
export function milliseconds(seconds) {
  if (seconds === null) return UNKNOWN;
  return seconds > 0 && seconds < 0.001 ? '<1 ms' : `${whole.format(seconds * 1000)} ms`;
}

/** Whole seconds in at most two units: `4 s`, `3 min 5 s`, `2 h 14 min`, `5 d 3 h`. */
export function wholeDuration(seconds) {
  const rounded = Math.round(Math.max(seconds, 0));
  if (rounded === 0) return '0 s';
  const first = UNITS.findIndex(([, size]) => rounded >= size);
  const [name, size] = UNITS[first];
  const [nextName, nextSize] = UNITS[first + 1] ?? [];
  const rest = nextSize === undefined ? 0 : Math.floor((rounded % size) / nextSize);
  return `${count(Math.floor(rounded / size))} ${name}${rest > 0 ? ` ${rest} ${nextName}` : ''}`;
}

export const timeOfDay = (time) => clock.format(new Date(time));
export const hourAndMinute = (time) => minutes.format(new Date(time));
export const dayAndTime = (time) => day.format(new Date(time));
