//! Every route of the API: statuses, headers, fields and codes.

mod admin;
mod bodies;
mod documents;
mod idempotency;
mod keys;
mod lifecycle;
mod listing;
mod observability;
mod policy;
mod products;
mod reservations;
mod routing;
