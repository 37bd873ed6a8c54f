//! Servers that go away and come back.

mod postgres;
mod redis;
