//! Expiry of holds, with and without Redis.

mod clocks;
mod copies;
mod lag;
mod locked;
mod outages;
mod stage;
mod storm;
mod timers;
