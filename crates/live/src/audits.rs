//! The latest audit of any process.

use std::sync::{Arc, Mutex};

use inventory::audit::Audit;
use presence::Audited;
use runtime::lock;

/// Most differences of an audit that the page shows.
const DIFFERENCES_MAX: usize = 20;

/// The latest audit. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct LastAudit(Arc<Mutex<Option<Audited>>>);

impl LastAudit {
    /// Keeps the audit if it is newer than the one before.
    pub(crate) fn take(&self, audit: Audited) {
        let mut last = lock(&self.0);
        if last.as_ref().is_none_or(|last| last.at < audit.at) {
            *last = Some(audit);
        }
    }

    pub(crate) fn get(&self) -> Option<Audited> {
        lock(&self.0).clone()
    }
}

/// The summary of an audit for reports and the page.
pub(crate) fn audited(audit: &Audit) -> Audited {
    let differences = audit.differences.iter().take(DIFFERENCES_MAX);
    Audited {
        at: audit.at,
        clean: audit.clean,
        products: audit.products.len() as u64,
        difference_count: audit.differences.len() as u64,
        differences: differences.cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn only_a_newer_audit_counts() {
        let last = LastAudit::default();
        let take = |at, products| {
            last.take(Audited {
                at: OffsetDateTime::from_unix_timestamp(at).expect("a time"),
                clean: true,
                products,
                difference_count: 0,
                differences: Vec::new(),
            });
            last.get().expect("an audit").products
        };
        assert_eq!(take(100, 1), 1);
        assert_eq!(take(99, 2), 1);
        assert_eq!(take(100, 3), 1);
        assert_eq!(take(101, 4), 4);
    }
}
