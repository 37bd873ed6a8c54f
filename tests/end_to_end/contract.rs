//! Every route of the API: statuses, headers, fields and codes.

mod admin;
mod bodies;
mod caching;
mod concurrent_keys;
mod documents;
mod edges;
mod forgotten_keys;
mod idempotency;
mod import;
mod keys;
mod lifecycle;
mod listing;
mod logs;
mod observability;
mod orders;
mod origins;
mod parameters;
mod policy;
mod products;
mod request_ids;
mod reservations;
mod routing;
mod set_stock;
mod skus;
mod waitlist;
