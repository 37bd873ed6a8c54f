//! The live page: its stream, its alerts, and the page itself in a browser. Also the page `/docs` in a browser.

mod browser;
mod docs;
mod operator;
mod page;
mod stream;
mod troubles;
