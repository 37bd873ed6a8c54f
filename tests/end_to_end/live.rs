//! The live page: its stream, its alerts, and the page itself in a browser.

mod browser;
mod page;
mod stage;
mod stream;
mod troubles;
