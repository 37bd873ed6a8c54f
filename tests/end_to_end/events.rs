//! From a confirmed reservation to the consumer, with all faults on the way.

mod clock;
mod consumer;
mod consumers;
mod crashes;
mod dead;
mod delivery;
mod lifecycle;
mod monitoring;
mod nodes;
mod outages;
mod refusing;
mod replay;
mod roles;
mod slow;
pub(crate) mod stage;
mod topology;
