//! From a confirmed reservation to the consumer, with all faults on the way.

mod consumer;
mod crashes;
mod dead;
mod delivery;
mod lifecycle;
mod monitoring;
mod outages;
mod replay;
mod roles;
pub(crate) mod stage;
mod topology;
