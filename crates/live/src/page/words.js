// The friendly words for what the stream has as codes. What is not listed is shown as its code reads.

const REFUSALS = {
  already_reserved: 'User holds it already',
  expired_sold_out: 'Paid late, units gone',
  forbidden: 'Admin act not allowed here',
  idempotency_key_in_use: 'Same request under way',
  idempotency_key_reused: 'Key of another request',
  insufficient_stock: 'Too few free units to remove',
  invalid_json: 'Body is not JSON',
  invalid_query: 'Query not valid',
  invalid_request: 'Request not valid',
  max_per_user_reached: 'Limit per user reached',
  product_not_found: 'No such product',
  reservation_canceled: 'Was canceled before',
  reservation_confirmed: 'Was confirmed before',
  reservation_expired: 'Came after the deadline',
  reservation_not_confirmed: 'Not confirmed yet',
  reservation_not_found: 'No such reservation',
  reservation_returned: 'Was returned before',
  sale_closed: 'Sale is over',
  sale_not_open: 'Sale has not begun',
  sold_out: 'Sold out',
  unauthorized: 'Token missing or wrong',
};

const FAILURES = {
  internal: 'Fault in the service',
  outcome_unknown: 'Answer was lost',
  overloaded: 'Overloaded, nothing done',
};

const TRANSITIONS = {
  reserved: 'Reserved',
  confirmed: 'Confirmed',
  canceled: 'Canceled',
  expired: 'Expired',
  extended: 'Extended',
  returned: 'Returned',
};

const COUNTERS = { stock: 'free', held: 'held', sold: 'sold', total: 'total' };

const spelled = (code) => code.charAt(0).toUpperCase() + code.slice(1).replaceAll('_', ' ');

export const refusal = (code) => REFUSALS[code] ?? spelled(code);
export const failure = (code) => FAILURES[code] ?? spelled(code);
export const transition = (what) => TRANSITIONS[what] ?? spelled(what);
export const counter = (name) => COUNTERS[name] ?? spelled(name);

export const ROLES = { api: 'API', expirer: 'Expirer', relay: 'Relay' };
export const SERVERS = { postgres: 'PostgreSQL', redis: 'Redis', rabbitmq: 'RabbitMQ' };
export const roleName = (role) => ROLES[role] ?? spelled(role);

/** The action that helps against an alert, where this page has one. */
export const REMEDIES = {
  holds_overdue: ['sync-expired', 'Expire due holds…'],
  no_expirer: ['sync-expired', 'Expire due holds…'],
  events_dead: ['requeue-events', 'Requeue dead events…'],
  books_differ: ['run-audit', 'Run the audit'],
};
