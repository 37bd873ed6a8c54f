// Finds reservations by their id, their user or their reference.

import { byId, make, problemNodes, setHidden, setText } from './dom.js';
import { validate } from './fields.js';
import { plural } from './format.js';
import { read } from './read.js';
import { entryTable, reservationTable } from './reservation-table.js';

const LIMIT = 20;
const KINDS = {
  id: { label: 'Reservation id', inputMode: 'numeric', path: (wanted) => `/reservations/${wanted}` },
  user: { label: 'User id', inputMode: 'numeric', path: (wanted) => `/reservations?user_id=${wanted}&limit=${LIMIT}` },
  reference: { label: 'Reference', inputMode: 'text', path: (wanted) => `/reservations?reference=${encodeURIComponent(wanted)}&limit=${LIMIT}` },
};

/** What was searched for last. An answer to an earlier search is dropped. */
let search = 0;
let next = null;

export function openFind(model) {
  const [form, kind, field] = [byId('find-form'), byId('find-kind'), byId('find-wanted')];
  kind.addEventListener('change', () => {
    setText(byId('find-label'), KINDS[kind.value].label);
    field.inputMode = KINDS[kind.value].inputMode;
    field.setCustomValidity('');
  });
  field.addEventListener('input', () => field.setCustomValidity(''));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const wanted = field.value.trim().replace(/^#/, '');
    field.setCustomValidity(kind.value === 'reference' || isId(wanted) ? '' : 'no id');
    if (validate(form)) find(model, kind.value, wanted);
  });
  byId('find-more').addEventListener('click', () => more(model));
}

/** An id as the API reads it: a whole number without leading zeros, of at most 19 digits. */
export const isId = (text) => /^[1-9]\d{0,18}$/.test(text);

async function find(model, kind, wanted) {
  search += 1;
  const mine = search;
  busy(true);
  const [found, line] = await Promise.all([
    read(KINDS[kind].path(wanted)),
    kind === 'user' ? read(`/waitlist?user_id=${wanted}&order=newest&limit=${LIMIT}`) : null,
  ]);
  if (mine !== search) return;
  busy(false);
  if (found.status === 404) return show('No reservation has this id.', [], null);
  if (found.problem !== undefined) return show('', problemNodes(found.problem), null);
  const reservations = kind === 'id' ? [found.answer] : found.answer;
  const entries = line?.answer ?? [];
  const words = [
    reservations.length === 0 ? 'No reservation found' : `${plural(reservations.length, 'reservation')}${found.next === null ? '' : ', newest first, and there are more'}`,
    ...(entries.length > 0 ? [plural(entries.length, 'entry of a waitlist', 'entries of waitlists')] : []),
  ];
  show(`${words.join(', ')}.`, [
    ...(reservations.length > 0 ? [reservationTable(reservations, model.products, model.time())] : []),
    ...(entries.length > 0 ? [make('h3', { textContent: 'Waitlists' }), entryTable(entries, model.products)] : []),
  ], found.next);
}

/** Replaces the page of reservations by the next one. */
async function more(model) {
  search += 1;
  const mine = search;
  busy(true);
  const found = await read(next);
  if (mine !== search) return;
  busy(false);
  if (found.problem !== undefined) return show('', problemNodes(found.problem), next);
  const ends = found.next === null ? 'These are the last ones.' : 'There are more.';
  show(`${plural(found.answer.length, 'older reservation')}. ${ends}`, [reservationTable(found.answer, model.products, model.time())], found.next);
}

function busy(is) {
  byId('find-submit').disabled = is;
  byId('find-more').disabled = is;
  if (is) setText(byId('find-status'), 'Searching…');
}

function show(status, nodes, following) {
  next = following;
  setText(byId('find-status'), status);
  byId('find-results').replaceChildren(...nodes);
  setHidden(byId('find-results'), nodes.length === 0);
  setHidden(byId('find-more'), following === null);
}
