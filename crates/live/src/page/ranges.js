// The time ranges of the chart.

export const RANGES = {
  '5min': { words: 'the last five minutes', seconds: 300, minutes: [5, 4, 3, 2, 1] },
  hour: { words: 'the last hour', seconds: 3600, minutes: [60, 45, 30, 15] },
  all: { words: 'all of the sale', seconds: null },
};

/** The first and the last second of the chart. */
export function boundsOf(range, at, now) {
  const { seconds } = RANGES[range];
  return [seconds === null ? Math.min(at[0] ?? now, now - 60) : now - seconds, now];
}

/** The marks of the time axis. Those without `words` are times of day. */
export function splitsOf(range, [first, last]) {
  const { minutes } = RANGES[range];
  if (minutes !== undefined) {
    const ago = minutes.map((each, index) => ({ at: last - each * 60, words: index === 0 ? `${each} min ago` : String(each) }));
    return [...ago, { at: last, words: 'now' }];
  }
  const quarters = [0, 1, 2, 3].map((quarter) => ({ at: first + (quarter * (last - first)) / 4 }));
  return [...quarters, { at: last, words: 'now' }];
}
