// The background work: sweeps of due holds, and events on their way to consumers.

import { byId, setAttribute, setText } from './dom.js';
import { amount, duration, rate, UNKNOWN } from './format.js';

export function drawDelivery({ now: { alerts, expiry, outbox, rates }, history }) {
  // The limits are in one place: the server's alerts.
  const wrong = (...codes) => String(alerts.some((alert) => codes.includes(alert.code)));

  setAttribute(byId('expiry'), 'data-wrong', wrong('holds_overdue', 'no_expirer'));
  setText(byId('expiry-lag'), duration(expiry.lag_seconds));
  setText(byId('expiry-text'), rates === null ? UNKNOWN : `${rate(rates.expired)} expired and ${rate(rates.canceled)} canceled per second.`);
  drawSpark(byId('expiry-spark'), history.at, history.lag_seconds, 5);

  setAttribute(byId('outbox'), 'data-wrong', wrong('events_wait', 'no_relay', 'rabbitmq_down'));
  setText(byId('outbox-depth'), amount(outbox.depth));
  setText(byId('outbox-age'), outbox.depth === 0 ? 'none' : duration(outbox.oldest_age_seconds));
  setText(byId('outbox-published'), rate(rates === null ? null : rates.published));
  setText(byId('outbox-dead'), amount(outbox.dead));
  setAttribute(byId('outbox-dead-fact'), 'data-wrong', String(outbox.dead > 0));
  drawSpark(byId('outbox-spark'), history.at, history.depth, 100);
}

/** A line of five minutes, 300 by 40 pixels. The top is at least `least`, so that small values look small. */
function drawSpark(svg, at, values, least) {
  const last = at.at(-1) ?? 0;
  const top = values.reduce((most, value) => Math.max(most, value ?? 0), least);
  let command = 'M';
  const path = values.map((value, index) => {
    if (value === null) {
      command = 'M';
      return '';
    }
    const point = `${command}${(300 - (last - at[index])).toFixed(1)} ${(38 - (36 * value) / top).toFixed(1)}`;
    command = 'L';
    return point;
  }).join('');
  setAttribute(svg.firstElementChild, 'd', path);
}
