//! What the relay knows about its dependencies.

use std::sync::atomic::{
    AtomicBool,
    Ordering::{AcqRel, Acquire, Release},
};

use runtime::outage::Causes;

/// Whether a dependency works. Each change is logged once, and each cause once until it works again.
pub(crate) struct DependencyStatus {
    what: &'static str,
    is_good: AtomicBool,
    causes: Causes,
}

impl DependencyStatus {
    pub(crate) fn good(what: &'static str) -> Self {
        Self::new(what, true)
    }

    pub(crate) fn bad(what: &'static str) -> Self {
        Self::new(what, false)
    }

    fn new(what: &'static str, is_good: bool) -> Self {
        Self {
            what,
            is_good: AtomicBool::new(is_good),
            causes: Causes::default(),
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.is_good.load(Acquire)
    }

    pub(crate) fn works(&self) {
        if !self.is_good.swap(true, AcqRel) {
            self.causes.clear();
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
        // In this order, because another worker may call `works` meanwhile: a cause that it leaves would never be logged again.
        let is_new = self.causes.add(&text);
        self.is_good.store(false, Release);
        if is_new {
            tracing::error!("{}: {text}", self.what);
        }
    }
}
