// The chart of the last five minutes, and a table with the same numbers.

import uPlot from './vendor/uPlot.esm.js';

import { byId, make, setText } from './dom.js';
import { rate, short, timeOfDay } from './format.js';

const SECONDS = 300;
const ROW_SECONDS = 30;
const HEIGHT = 240;
const LINES = ['reserved', 'confirmed', 'refused', 'failed'];

let chart = null;
let drawnAt = 0;
let history = null;
let colours = {};

export function drawChart(model) {
  history = model.history;
  const last = history.at.at(-1) ?? 0;
  if (chart === null) chart = create();
  if (last === drawnAt) return;
  drawnAt = last;
  // Without failures the red line is not drawn, because it would cover the axis.
  const failed = history.failed.some((each) => each > 0) ? history.failed : history.failed.map(() => null);
  chart.setData([history.at, history.reserved, history.confirmed, history.refused, failed]);
  if (chart.cursor.idx == null) readOut(null);
  if (byId('chart-table').open) drawTable();
}

function create() {
  const plot = byId('chart-plot');
  readColours();
  const line = (name, options) => ({
    stroke: () => colours[name], width: 2, points: { show: false }, ...options,
  });
  const axis = { stroke: () => colours.faint, font: `12px ${getComputedStyle(document.body).fontFamily}`, ticks: { show: false } };
  const made = new uPlot({
    width: plot.clientWidth,
    height: HEIGHT,
    padding: [12, 12, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: false, range: () => [drawnAt - SECONDS, drawnAt] },
      y: { range: (_, min, max) => [0, ceiling(max)] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 28,
        splits: () => [5, 4, 3, 2, 1, 0].map((minutes) => drawnAt - minutes * 60),
        values: () => ['5 min ago', '4', '3', '2', '1', 'now'],
      },
      {
        ...axis,
        size: 48,
        grid: { stroke: () => colours.line, width: 1 },
        values: (_, splits) => splits.map(short),
      },
    ],
    series: [
      {},
      line('reserved', { fill: () => colours.reservedFill }),
      line('confirmed'),
      line('refused', { dash: [5, 4] }),
      line('failed', { width: 3 }),
    ],
    hooks: { setCursor: [(self) => readOut(self.cursor.idx)] },
  }, [[], [], [], [], []], plot);

  new ResizeObserver(() => made.setSize({ width: plot.clientWidth, height: HEIGHT })).observe(plot);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    readColours();
    made.redraw();
  });
  byId('chart-table').addEventListener('toggle', drawTable);
  return made;
}

/** Reads the colours from the style sheet, because a canvas cannot use it. */
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = {
    reserved: '--held', reservedFill: '--held-wash', confirmed: '--sold', refused: '--refused', failed: '--bad', faint: '--faint', line: '--line',
  };
  colours = Object.fromEntries(Object.entries(names).map(([name, variable]) => [name, style.getPropertyValue(variable).trim()]));
}

/** The next larger number of 1, 2, 5, 10, 20 …, so that the scale seldom changes. */
function ceiling(max) {
  const least = Math.max((max ?? 0) * 1.05, 5);
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= least);
}

function readOut(index) {
  const at = index == null ? null : history?.at[index];
  setText(byId('chart-readout'), at == null
    ? 'Last five minutes, per second'
    : `${timeOfDay(at * 1000)} – per second: reserved ${value('reserved', index)}, sold ${value('confirmed', index)}, refused ${value('refused', index)}, failed ${value('failed', index)}`);
}

const value = (name, index) => (history[name][index] == null ? 'unknown' : rate(history[name][index]));

function drawTable() {
  const rows = [];
  for (let until = drawnAt; until > drawnAt - SECONDS; until -= ROW_SECONDS) {
    const means = LINES.map((name) => mean(name, until - ROW_SECONDS, until));
    rows.push(make('tr', {},
      make('th', { scope: 'row', textContent: timeOfDay(until * 1000) }),
      ...means.map((textContent) => make('td', { textContent }))));
  }
  byId('chart-rows').replaceChildren(...rows);
}

function mean(name, from, until) {
  const values = history[name].filter((each, index) => each !== null && history.at[index] > from && history.at[index] <= until);
  return values.length === 0 ? '–' : rate(values.reduce((total, each) => total + each, 0) / values.length);
}
