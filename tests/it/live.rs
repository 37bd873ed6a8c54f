//! The live page: the stream that feeds it, what it says of trouble, and the page itself in a browser.

mod browser;
mod page;
mod stage;
mod stream;
mod troubles;
