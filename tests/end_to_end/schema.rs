//! The database at the start of a process: created by hand, empty, of another release, or with other settings. The
//! process works, or waits and logs the reason, and becomes ready without a restart.

mod by_hand;
mod isolation;
mod members;
mod stage;
mod waiting;
mod weak;
