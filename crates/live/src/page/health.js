// The status of the service at the top of the page, and the alerts below it.

import { isOld } from './audit.js';
import { byId, fromTemplate, keepInStep, make, setAttribute, setHidden, setText } from './dom.js';
import { plural, timeOfDay, wholeDuration } from './format.js';
import { REMEDIES, SERVERS } from './words.js';

const LINKS = {
  connecting: 'Connecting',
  live: 'Live',
  lost: 'No connection',
  crowded: 'Too many viewers',
  paused: 'Paused',
  unauthorized: 'Token needed',
  forbidden: 'Not allowed',
  stopped: 'Not connected',
};

const alerts = new Map();
let announced = null;

export function drawHealth(model, stream) {
  const verdict = assess(model, stream);
  setAttribute(document.body, 'data-health', verdict.health);
  setAttribute(byId('health'), 'data-health', verdict.health);
  setText(byId('health-title'), verdict.title);
  setText(byId('health-text'), verdict.text);
  document.title = `${verdict.short} · flashsale live`;
  drawLink(model, stream);
  drawAlerts(model.now?.alerts ?? []);
  // While the page is paused nobody reads it. Changes are announced when it continues.
  if (stream.phase !== 'paused') announce(verdict, model.now?.alerts ?? []);
}

export function assess(model, stream) {
  const unknown = (title, text) => ({ health: 'unknown', title, text, short: title });
  if (stream.phase === 'paused') {
    const old = model.now === null ? '' : ` The numbers below are from ${timeOfDay(model.now.at)}.`;
    return unknown('Paused', `This tab was hidden, so it stopped reading new data.${old}`);
  }
  if (model.now === null) {
    switch (stream.phase) {
      case 'unauthorized':
      case 'stopped': return unknown('Admin token needed', 'Enter the admin token to see the status.');
      case 'forbidden': return unknown('Not allowed from here', 'The service shows its numbers only to its own machine.');
      case 'crowded': return unknown('Too many viewers', 'The service has its maximum number of viewers. Close other live pages. This page tries again automatically.');
      case 'lost': return unknown('No connection to the API', `${stream.problem?.title ?? 'The API does not answer'}. There is no data yet. This page tries again automatically.`);
      default: return unknown('Connecting', 'Waiting for the first data.');
    }
  }
  if (stream.silent || ['unauthorized', 'forbidden', 'stopped'].includes(stream.phase)) {
    const age = wholeDuration((Date.now() - stream.newsAt) / 1000);
    return {
      health: 'stale',
      title: `No data since ${timeOfDay(model.now.at)}`,
      text: `The API has sent no data for ${age}${reason(stream)}. All numbers below are old.`,
      short: 'No data',
    };
  }
  const { alerts } = model.now;
  if (alerts.length > 0) {
    const counted = countAlerts(alerts);
    return {
      health: alerts.some(isCritical) ? 'critical' : 'warning',
      title: alerts.length === 1 ? alerts[0].title : counted,
      text: alerts.length === 1 ? 'Meaning, and what to do:' : 'Meaning, and what to do. The worst alert is first:',
      short: counted,
    };
  }
  const down = Object.keys(SERVERS).filter((name) => model.now.servers[name] === 'down').map((name) => SERVERS[name]);
  // The server state changes some polls before the alert is sent.
  if (down.length > 0) {
    const title = `${down.join(' and ')} ${down.length === 1 ? 'does' : 'do'} not answer`;
    const health = model.now.servers.postgres === 'down' ? 'critical' : 'warning';
    return { health, title, text: 'Sales depend only on PostgreSQL. See the servers below.', short: title };
  }
  return { health: 'well', title: 'All is well', text: wellness(model), short: 'All is well' };
}

/** An API of another release may send a severity that this page does not know, or none. */
const isCritical = ({ severity }) => severity !== 'warning';

/** `1 critical alert, 2 warnings`. */
function countAlerts(alerts) {
  const critical = alerts.filter(isCritical).length;
  const warnings = alerts.length - critical;
  return [
    ...(critical > 0 ? [plural(critical, 'critical alert')] : []),
    ...(warnings > 0 ? [plural(warnings, 'warning')] : []),
  ].join(', ');
}

function reason({ phase, problem }) {
  if (phase === 'crowded') return ' (too many viewers)';
  return problem === null ? '' : ` (${problem.title})`;
}

function wellness(model) {
  const { now: { servers, processes, audit }, products } = model;
  const up = Object.keys(SERVERS).filter((name) => servers[name] === 'up').map((name) => SERVERS[name]);
  const running = processes.filter((process) => process.alive).length;
  const inventory = audit === null
    ? 'inventory not audited yet'
    : isOld(audit, model.time()) ? `inventory not audited since ${timeOfDay(audit.at)}` : 'inventory consistent';
  const soldOut = [...products.values()].filter(({ stock, total }) => stock === 0 && total > 0).length;
  return [
    `${up.join(', ')} up`,
    `${plural(running, 'process', 'processes')} running`,
    inventory,
    ...(soldOut === 0 ? [] : [soldOut === products.size ? 'all products sold out' : `${soldOut} of ${plural(products.size, 'product')} sold out`]),
  ].join(' · ');
}

function drawLink(model, stream) {
  const link = stream.silent && stream.phase === 'live' ? 'lost' : stream.phase;
  setAttribute(document.body, 'data-link', link);
  setAttribute(byId('link'), 'data-link', link);
  setText(byId('link-text'), LINKS[link]);
  const time = byId('link-time');
  setText(time, model.now === null ? '' : timeOfDay(model.now.at));
  setAttribute(time, 'datetime', model.now?.at ?? null);
}

function drawAlerts(list) {
  // A code can appear more than once, for example if copies of two roles are down.
  const keys = list.map(({ code }, index) => `${code} ${list.slice(0, index).filter((other) => other.code === code).length}`);
  setHidden(byId('alerts'), list.length === 0);
  keepInStep(byId('alerts-list'), alerts, keys, (key) => createAlert(key.split(' ')[0]));
  for (const [index, alert] of list.entries()) {
    const node = alerts.get(keys[index]);
    setAttribute(node, 'data-severity', isCritical(alert) ? 'critical' : 'warning');
    setText(node.querySelector('[data-severity-word]'), isCritical(alert) ? 'Critical' : 'Warning');
    setText(node.querySelector('[data-title]'), alert.title);
    setText(node.querySelector('[data-meaning]'), alert.meaning);
    setText(node.querySelector('[data-todo]'), alert.action);
  }
}

function createAlert(code) {
  const node = fromTemplate('template-alert');
  node.dataset.alert = code;
  node.querySelector('[data-code]').textContent = code;
  if (code in REMEDIES) {
    const [action, words] = REMEDIES[code];
    const button = make('button', { type: 'button', textContent: words });
    button.dataset.action = action;
    node.querySelector('.aside').prepend(button);
  }
  return node;
}

/**
 * Announces each change of the set of alerts once. The texts have numbers that change every second, so they are
 * not compared.
 */
function announce({ health, title }, list) {
  const key = [health, list.length === 0 ? title : '', ...list.map((alert) => alert.code).sort()].join(' ');
  if (key === announced) return;
  announced = key;
  const names = list.map((alert) => alert.title).join('. ');
  const tells = ['critical', 'warning'].includes(health) && list.length > 0;
  setText(byId('announcement'), tells ? `${countAlerts(list)}: ${names}.` : `${title}.`);
}
