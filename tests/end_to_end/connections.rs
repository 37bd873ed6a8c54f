//! What clients can make the HTTP server hold, and how it closes connections without losing an answer.

mod balancer;
mod haproxy;
mod limits;
mod memory;
mod rolling;
mod stage;
mod times;
mod unread;
mod upgrade;
