//! Servers that go away and come back.

mod commit;
mod postgres;
mod redis;
