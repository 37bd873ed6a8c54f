//! Holds that nobody confirms, with Redis' help and without.

mod clocks;
mod copies;
mod lag;
mod outages;
mod stage;
mod storm;
mod timers;
