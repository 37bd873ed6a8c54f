// Tables of reservations and of entries of waitlists.

import { make, table } from './dom.js';
import { count, dayAndTime, wholeDuration } from './format.js';
import { productAddress } from './route.js';
import { entryStatus, reservationStatus } from './words.js';

const ENDS = ['returned_at', 'confirmed_at', 'canceled_at', 'expired_at'];

/** When a reservation ended or, while it is held, when it will. */
function ending(reservation, time) {
  if (reservation.status === 'ACTIVE') return `ends in ${remaining(reservation, time)}`;
  const field = ENDS.find((name) => reservation[name] !== undefined);
  return field === undefined ? '' : dayAndTime(reservation[field]);
}

export const remaining = ({ expires_at }, time) => wholeDuration((Date.parse(expires_at) - time) / 1000);

export function reservationTable(reservations, products, time) {
  const rows = reservations.map((reservation) => [
    `#${reservation.id}`,
    make('b', { className: 'status', textContent: reservationStatus(reservation.status) }),
    productLink(reservation.product_id, products),
    String(reservation.user_id),
    count(reservation.quantity),
    reservation.reference ?? '',
    dayAndTime(reservation.created_at),
    ending(reservation, time),
  ]);
  return table(['Reservation', 'Status', 'Product', 'User', 'Units', 'Reference', 'Created', 'Ended'], rows);
}

export function entryTable(entries, products) {
  const rows = entries.map((entry) => [
    `#${entry.id}`,
    make('b', { className: 'status', textContent: entryStatus(entry.status) }),
    productLink(entry.product_id, products),
    entry.position === undefined ? '' : count(entry.position),
    count(entry.quantity),
    entry.reservation_id === undefined ? '' : `#${entry.reservation_id}`,
    dayAndTime(entry.created_at),
  ]);
  return table(['Entry', 'Status', 'Product', 'Place', 'Units', 'Reservation', 'Joined'], rows);
}

const productLink = (id, products) => make('a', { href: productAddress(id), textContent: products.get(id)?.name ?? `product ${id}` });
