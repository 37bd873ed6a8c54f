// How fast numbers of the last minutes change: a few samples of each, and the mean rate per second.

const STEP_MS = 5000;
const KEPT_MS = 300_000;
/** The rate is the mean of this time. */
const WINDOW_MS = 15_000;

/**
 * Adds a sample, `values` at the time `at` in milliseconds. Samples are 5 s apart or more, except for the last one, and
 * none is older than five minutes, except for the first.
 */
export function follow(samples, at, values) {
  // The clock was set back.
  const known = samples.length > 0 && samples.at(-1).at > at ? [] : samples;
  const close = known.length > 1 && at - known.at(-2).at <= STEP_MS;
  const kept = close ? known.slice(0, -1) : known;
  const old = kept.findLastIndex((sample) => at - sample.at > KEPT_MS);
  return [...kept.slice(Math.max(old, 0)), { at, values }];
}

/** The rate per second of each value at the time `at`. The numbers did not change after the last sample. */
export function pace(samples, at) {
  if (samples.length === 0) return {};
  const last = samples.at(-1);
  const since = Math.max(at - WINDOW_MS, samples[0].at);
  const before = samples.findLast((sample) => sample.at <= since) ?? samples[0];
  const seconds = Math.max((at - since) / 1000, 1);
  return Object.fromEntries(Object.keys(last.values).map((name) => [name, (last.values[name] - before.values[name]) / seconds]));
}
