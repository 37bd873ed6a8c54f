// Texts for the codes in the stream. A code that is not listed is shown with spaces instead of underscores.

const REFUSALS = {
  already_reserved: 'User already holds the product',
  already_waiting: 'User already waits for the product',
  expired_sold_out: 'Paid late, units sold out',
  forbidden: 'Admin request not allowed',
  idempotency_key_in_use: 'Same request in progress',
  idempotency_key_reused: 'Idempotency-Key of another request',
  insufficient_stock: 'Too few free units to remove',
  invalid_json: 'Body is not JSON',
  invalid_query: 'Query is not valid',
  invalid_request: 'Request is not valid',
  max_per_user_reached: 'Limit per user reached',
  product_not_found: 'No such product',
  reservation_canceled: 'Reservation already canceled',
  reservation_confirmed: 'Reservation already confirmed',
  reservation_expired: 'Reservation expired',
  reservation_not_confirmed: 'Reservation not confirmed yet',
  reservation_not_found: 'No such reservation',
  reservation_returned: 'Reservation already returned',
  sale_closed: 'Sale is over',
  sale_not_open: 'Sale has not started',
  sold_out: 'Sold out',
  unauthorized: 'Token is missing or wrong',
  waitlist_entry_closed: 'Waitlist entry closed',
  waitlist_entry_not_found: 'No such waitlist entry',
  waitlist_entry_offered: 'Waitlist entry already offered',
};

const FAILURES = {
  internal: 'Unexpected server error',
  outcome_unknown: 'Outcome unknown',
  overloaded: 'Overloaded, nothing was done',
};

const TRANSITIONS = {
  reserved: 'Reserved',
  confirmed: 'Confirmed',
  canceled: 'Canceled',
  expired: 'Expired',
  extended: 'Extended',
  returned: 'Returned',
  offered: 'Offered',
};

const COUNTERS = { stock: 'free', held: 'held', sold: 'sold', total: 'total', waiting: 'waiting', unoffered: 'free beside the waitlist' };

const spelled = (code) => code.charAt(0).toUpperCase() + code.slice(1).replaceAll('_', ' ');

export const refusal = (code) => REFUSALS[code] ?? spelled(code);
export const failure = (code) => FAILURES[code] ?? spelled(code);
export const transition = (what) => TRANSITIONS[what] ?? spelled(what);
export const counter = (name) => COUNTERS[name] ?? spelled(name);

/** The statuses of an entry of a waitlist. */
const ENTRIES = { WAITING: 'Waiting', OFFERED: 'Offered', LEFT: 'Left', CLOSED: 'Closed' };
/** The effective statuses of a reservation. */
const RESERVATIONS = { ACTIVE: 'Held', CONFIRMED: 'Confirmed', CANCELED: 'Canceled', EXPIRED: 'Expired', RETURNED: 'Returned' };

export const entryStatus = (status) => ENTRIES[status] ?? status;
export const reservationStatus = (status) => RESERVATIONS[status] ?? status;

export const ROLES = { api: 'API', expirer: 'Expirer', relay: 'Relay' };
export const SERVERS = { postgres: 'PostgreSQL', redis: 'Redis', rabbitmq: 'RabbitMQ' };
export const roleName = (role) => ROLES[role] ?? spelled(role);

/** The action on this page that helps with an alert. */
export const REMEDIES = {
  holds_overdue: ['sync-expired', 'Expire due holds…'],
  no_expirer: ['sync-expired', 'Expire due holds…'],
  events_dead: ['requeue-events', 'Requeue dead letters…'],
  inventory_inconsistent: ['run-audit', 'Run the audit'],
};
