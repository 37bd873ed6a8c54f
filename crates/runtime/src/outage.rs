//! The causes of an outage, each logged once.

use std::{
    collections::HashSet,
    mem::take,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::lock;

/// The causes of the current outage. With several servers an outage has several, which come in turns: one for each address.
#[derive(Default)]
pub struct Causes {
    causes: Mutex<HashSet<String>>,
    /// Whether there are causes. Written with `causes` locked, so that both always agree once the lock is free.
    any: AtomicBool,
}

impl Causes {
    /// Whether this cause is new in this outage, and so is worth a line of the log.
    pub fn add(&self, cause: &str) -> bool {
        let mut causes = lock(&self.causes);
        self.any.store(true, Relaxed);
        causes.insert(cause.to_owned())
    }

    /// Ends the outage. Returns whether there was one. Every successful call may do so: without an outage it is one read.
    pub fn clear(&self) -> bool {
        if !self.any.load(Relaxed) {
            return false;
        }
        let mut causes = lock(&self.causes);
        self.any.store(false, Relaxed);
        !take(&mut *causes).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_new_once_in_an_outage() {
        let causes = Causes::default();
        assert!(!causes.clear());
        let is_new = ["a", "b", "a", "b"].map(|cause| causes.add(cause));
        assert_eq!(is_new, [true, true, false, false]);
        assert!(causes.clear());
        assert!(!causes.clear());
        assert!(causes.add("a"));
    }
}
