//! The causes of an outage, each logged once.

use std::{collections::HashSet, mem::take, sync::Mutex};

use crate::lock;

/// The causes of the current outage. With several servers an outage has several, which come in turns: one for each address.
#[derive(Default)]
pub struct Causes(Mutex<HashSet<String>>);

impl Causes {
    /// Whether this cause is new in this outage, and so is worth a line of the log.
    pub fn add(&self, cause: &str) -> bool {
        lock(&self.0).insert(cause.to_owned())
    }

    /// Ends the outage. Returns whether there was one.
    pub fn clear(&self) -> bool {
        !take(&mut *lock(&self.0)).is_empty()
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
