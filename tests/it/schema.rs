//! The database that a process finds at its start: made by hand, empty, of another release, or with settings of its
//! own. It works, or waits and says what for, and becomes ready by itself.

mod by_hand;
mod isolation;
mod members;
mod stage;
mod waiting;
