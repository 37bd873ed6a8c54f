//! What the relay knows about its dependencies.

use std::sync::Mutex;

use runtime::lock;

/// Whether a dependency works. Each change is logged once.
pub(crate) struct DependencyStatus {
    what: &'static str,
    /// Why it does not work.
    error: Mutex<Option<String>>,
}

impl DependencyStatus {
    pub(crate) fn good(what: &'static str) -> Self {
        Self {
            what,
            error: Mutex::new(None),
        }
    }

    pub(crate) fn bad(what: &'static str) -> Self {
        Self {
            what,
            error: Mutex::new(Some(String::new())),
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        lock(&self.error).is_none()
    }

    pub(crate) fn works(&self) {
        if lock(&self.error).take().is_some() {
            tracing::info!("{}: works", self.what);
        }
    }

    pub(crate) fn fails(&self, error: &anyhow::Error) {
        let mut text = String::new();
        for cause in error.chain().map(ToString::to_string) {
            // lapin and sqlx repeat the source of an error in its own text.
            if !text.ends_with(&cause) {
                text = if text.is_empty() {
                    cause
                } else {
                    format!("{text}: {cause}")
                };
            }
        }
        let mut known = lock(&self.error);
        if known.as_ref() != Some(&text) {
            tracing::error!("{}: {text}", self.what);
            *known = Some(text);
        }
    }
}
