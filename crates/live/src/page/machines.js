// The servers that flashsale uses, and its own processes.

import { byId, fromTemplate, keepInStep, setAttribute, setText } from './dom.js';
import { wholeDuration } from './format.js';
import { roleName, ROLES, SERVERS } from './words.js';

export function drawServers({ now: { servers } }) {
  for (const node of document.querySelectorAll('[data-server]')) {
    const state = servers[node.dataset.server] ?? 'unknown';
    setAttribute(node, 'data-state', state);
    setText(node.querySelector('[data-word]'), state);
  }
}

const roles = new Map();
const copies = new Map();

export function drawProcesses(model) {
  const { alerts, processes } = model.now;
  // A role without a process is shown too: it is the most important fault.
  const names = [...new Set([...Object.keys(ROLES), ...processes.map(({ role }) => role)])];
  keepInStep(byId('processes-list'), roles, names, createRole);
  const missed = alerts.some(({ code }) => code === 'process_lost');
  for (const role of names) drawRole(role, processes.filter((process) => process.role === role), missed, model.time());
}

function createRole(role) {
  const node = fromTemplate('template-role');
  node.dataset.process = role;
  node.querySelector('[data-name]').textContent = roleName(role);
  copies.set(role, new Map());
  return node;
}

function drawRole(role, processes, missed, time) {
  const node = roles.get(role);
  const alive = processes.filter((process) => process.alive).length;
  const lost = processes.length - alive;
  setAttribute(node, 'data-alive', alive);
  setAttribute(node, 'data-lost', lost);
  // Processes that are down and were replaced are only listed, without a warning colour.
  setAttribute(node, 'data-replaced', String(lost > 0 && alive > 0 && !missed));
  setText(node.querySelector('[data-word]'), `${alive === 0 ? 'none running' : `${alive} running`}${lost > 0 ? `, ${lost} down` : ''}`);

  const byInstance = new Map(processes.map((process) => [process.instance, process]));
  const nodes = copies.get(role);
  keepInStep(node.querySelector('ul'), nodes, [...byInstance.keys()], createCopy);
  for (const [instance, process] of byInstance) drawCopy(nodes.get(instance), process, time);
}

function createCopy(instance) {
  const node = fromTemplate('template-copy');
  node.dataset.instance = instance;
  node.querySelector('[data-name]').textContent = instance;
  return node;
}

function drawCopy(node, { version, alive, heard_seconds_ago, started_at, cannot_reach }, time) {
  const unreached = cannot_reach.map((name) => SERVERS[name] ?? name).join(', ');
  setAttribute(node, 'data-alive', String(alive));
  setAttribute(node, 'data-cannot-reach', cannot_reach.join(' '));
  setText(node.querySelector('[data-version]'), version);
  setText(node.querySelector('[data-age]'), alive
    ? `for ${wholeDuration((time - Date.parse(started_at)) / 1000)}`
    : `last heartbeat ${wholeDuration(heard_seconds_ago)} ago`);
  setText(node.querySelector('[data-word]'), alive ? (unreached === '' ? 'up' : `cannot reach ${unreached}`) : 'down');
}
