// The chart of the rates in a time range, a table with the same numbers, and the numbers as a file.

import uPlot from './vendor/uPlot.esm.js';

import { fileName, save, toCsv } from './csv.js';
import { byId, make, setText } from './dom.js';
import { dayAndTime, hourAndMinute, rate, short, timeOfDay } from './format.js';
import { boundsOf, RANGES, splitsOf } from './ranges.js';
import { RATES } from './trend.js';

const ROWS = 10;
const HEIGHT = 240;

let chart = null;
let range = '5min';
/** The points that are drawn, by name, and the first and last second of the chart. */
let points = null;
let bounds = [0, 0];
let colours = {};
/** What was drawn last, so that the same is not drawn again. */
let drawn = '';

export function openChart(redraw) {
  for (const choice of document.querySelectorAll('#chart-range input')) {
    choice.addEventListener('change', () => {
      range = choice.value;
      redraw();
    });
  }
  byId('chart-table').addEventListener('toggle', () => points !== null && drawTable());
  byId('chart-export').addEventListener('click', () => points !== null && exportPoints());
}

export function drawChart(model) {
  const now = model.history.at.at(-1) ?? 0;
  points = { '5min': model.history, hour: model.trends.hour, all: model.trends.all }[range];
  bounds = boundsOf(range, points.at, now);
  if (chart === null) chart = create();
  const state = `${range} ${bounds.join(' ')}`;
  if (state === drawn) return;
  drawn = state;
  byId('chart-plot').setAttribute('aria-label', `Chart of ${RANGES[range].words}. The table below has the same numbers.`);
  // Without failures the red line is not drawn, because it would cover the axis.
  const failed = points.failed.some((each) => each > 0) ? points.failed : points.failed.map(() => null);
  chart.setData([points.at, points.reserved, points.confirmed, points.refused, failed]);
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
    padding: [12, 20, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: false, range: () => bounds },
      y: { range: (_, min, max) => [0, ceiling(max)] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 28,
        splits: () => splitsOf(range, bounds).map(({ at }) => at),
        values: () => splitsOf(range, bounds).map(({ at, words }) => words ?? hourAndMinute(at * 1000)),
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

/** A time in the chart. Where it spans more than a day, with the day. */
const timeText = (second) => (bounds[1] - bounds[0] > 86_400 ? dayAndTime : timeOfDay)(second * 1000);

function readOut(index) {
  const at = index == null ? null : points?.at[index];
  const { words } = RANGES[range];
  setText(byId('chart-readout'), at == null
    ? `${words.charAt(0).toUpperCase()}${words.slice(1)}, per second`
    : `${timeText(at)} – per second: reserved ${value('reserved', index)}, sold ${value('confirmed', index)}, refused ${value('refused', index)}, failed ${value('failed', index)}`);
}

const value = (name, index) => (points[name][index] == null ? 'unknown' : rate(points[name][index]));

function drawTable() {
  const [first, last] = bounds;
  const step = (last - first) / ROWS;
  const rows = [];
  for (let row = 0; row < ROWS; row += 1) {
    const until = last - row * step;
    const means = RATES.map((name) => mean(name, until - step, until));
    rows.push(make('tr', {},
      make('th', { scope: 'row', textContent: timeText(until) }),
      ...means.map((textContent) => make('td', { textContent }))));
  }
  byId('chart-rows').replaceChildren(...rows);
}

function mean(name, from, until) {
  const values = points[name].filter((each, index) => each !== null && points.at[index] > from && points.at[index] <= until);
  return values.length === 0 ? '–' : rate(values.reduce((total, each) => total + each, 0) / values.length);
}

function exportPoints() {
  const rows = points.at.map((second, index) => [new Date(second * 1000).toISOString(), ...RATES.map((name) => points[name][index])]);
  const columns = ['time', 'reserved_per_second', 'sold_per_second', 'refused_per_second', 'failed_per_second'];
  save(fileName(`rates-${range}`, Date.now()), toCsv(columns, rows));
}
