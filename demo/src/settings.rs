//! The settings of a demo.

use std::time::Duration;

pub(crate) struct Settings {
    pub(crate) url: String,
    pub(crate) admin_token: Option<String>,
    pub(crate) api_key: Option<String>,
    pub(crate) shoppers: u32,
    /// From the opening until all holds are over.
    pub(crate) length: Duration,
    pub(crate) seed: u64,
}
