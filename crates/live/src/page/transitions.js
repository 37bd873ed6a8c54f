// The last transitions of a product, from its newest reservations and from the feed.

const SHOWN = 15;
const ENDS = { confirmed_at: 'confirmed', canceled_at: 'canceled', expired_at: 'expired', returned_at: 'returned' };

/** Newest first, each once. The feed under load is a sample, and the list of reservations is some seconds old. */
export function transitionsOf(reservations, feed, productId) {
  const found = new Map();
  const add = (transition) => found.set(`${transition.reservation_id} ${transition.what} ${transition.what === 'extended' ? transition.at : ''}`, transition);
  for (const entry of feed) if (entry.product_id === productId) add(entry);
  for (const { id: reservation_id, user_id, quantity, created_at, ...reservation } of reservations) {
    const subject = { reservation_id, user_id, quantity };
    add({ ...subject, what: 'reserved', at: created_at });
    for (const [field, what] of Object.entries(ENDS)) if (reservation[field] !== undefined) add({ ...subject, what, at: reservation[field] });
  }
  return [...found.values()].sort((one, other) => Date.parse(other.at) - Date.parse(one.at)).slice(0, SHOWN);
}
