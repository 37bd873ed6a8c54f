//! Every route of the API: statuses, headers, fields and codes.

mod admin;
mod bodies;
mod listing;
mod observability;
mod products;
mod reservations;
mod routing;
