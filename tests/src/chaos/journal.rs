//! Records events of clients, injector and consumer as they happen.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    checker::{About, Promise, Violation, not_well},
    clock::{Micros, now},
    history::{Delivery, History, HostileClients, Move, Operation, Shown, Stored},
    sale::{HOLD_MICROS, MAX_HOLD_MICROS, MAX_PER_USER},
};

pub(crate) struct Journal {
    began: Micros,
    products: Mutex<BTreeMap<i64, i64>>,
    operations: Mutex<Vec<Operation>>,
    moves: Mutex<Vec<Move>>,
    hostile: Mutex<Vec<HostileClients>>,
    deliveries: Mutex<Vec<Delivery>>,
    /// One per API.
    viewers: Mutex<Vec<Vec<Shown>>>,
    /// Violations that the harness itself found.
    seen: Mutex<Vec<Violation>>,
}

impl Journal {
    /// `apis`: the number of APIs whose live pages are watched.
    pub(crate) fn new(apis: usize) -> Self {
        Self {
            began: now(),
            products: Mutex::default(),
            operations: Mutex::default(),
            moves: Mutex::default(),
            hostile: Mutex::default(),
            deliveries: Mutex::default(),
            viewers: Mutex::new(vec![Vec::new(); apis]),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn product(&self, id: i64, units: i64) {
        lock(&self.products).insert(id, units);
    }

    pub(crate) fn operation(&self, operation: Operation) {
        lock(&self.operations).push(operation);
    }

    pub(crate) fn moved(&self, act: Move) {
        lock(&self.moves).push(act);
    }

    pub(crate) fn hostile(&self, clients: HostileClients) {
        lock(&self.hostile).push(clients);
    }

    pub(crate) fn delivery(&self, delivery: Delivery) {
        lock(&self.deliveries).push(delivery);
    }

    pub(crate) fn shown(&self, api: usize, shown: Shown) {
        lock(&self.viewers)[api].push(shown);
    }

    /// Whether every viewer has received the final state by now.
    pub(crate) fn all_are_shown(&self, stored: &Stored) -> bool {
        let viewers = lock(&self.viewers);
        viewers
            .iter()
            .all(|shown| not_well(shown, stored).is_empty())
    }

    pub(crate) fn service_failed(&self, what: String) {
        lock(&self.seen).push(Violation {
            promise: Promise::Recovery,
            about: About::Service,
            what,
        });
    }

    /// When the first write to this API after `since` was acknowledged.
    pub(crate) fn acknowledged_since(&self, since: Micros, api: usize) -> Option<Micros> {
        // Operations are recorded when they end, so an earlier one may follow.
        lock(&self.operations)
            .iter()
            .rev()
            .take_while(|operation| operation.ended >= since)
            .filter(|operation| {
                operation.began >= since
                    && operation.api == api
                    && operation.writes()
                    && operation.acknowledged()
            })
            .map(|operation| operation.ended)
            .last()
    }

    /// When the first event after `since` arrived.
    pub(crate) fn delivered_since(&self, since: Micros) -> Option<Micros> {
        lock(&self.deliveries)
            .iter()
            .rev()
            .map(|delivery| delivery.at)
            .take_while(|at| *at >= since)
            .last()
    }

    /// The longest times without an acknowledged write, and without an event, in this time span.
    pub(crate) fn longest_gaps(&self, from: Micros, to: Micros) -> (Micros, Micros) {
        let longest = |mut times: Vec<Micros>| {
            times.retain(|at| (from..to).contains(at));
            times.extend([from, to]);
            times.sort_unstable();
            let gaps = times.windows(2).map(|two| two[1] - two[0]);
            gaps.max().unwrap_or(0)
        };
        let writes = lock(&self.operations)
            .iter()
            .filter(|operation| operation.writes() && operation.acknowledged())
            .map(|operation| operation.ended)
            .collect();
        let events = lock(&self.deliveries).iter().map(|one| one.at).collect();
        (longest(writes), longest(events))
    }

    /// Number of these events that have not arrived yet.
    pub(crate) fn missing(&self, events: &[String]) -> usize {
        let deliveries = lock(&self.deliveries);
        let came: HashSet<&str> = deliveries
            .iter()
            .map(|delivery| delivery.event.as_str())
            .collect();
        events
            .iter()
            .filter(|event| !came.contains(event.as_str()))
            .count()
    }

    /// Everything, including violations found before the check.
    pub(crate) fn close(&self, stored: Stored) -> (History, Vec<Violation>) {
        let history = History {
            began: self.began,
            hold_micros: HOLD_MICROS,
            max_hold_micros: MAX_HOLD_MICROS,
            max_per_user: MAX_PER_USER,
            products: lock(&self.products).clone(),
            operations: lock(&self.operations).clone(),
            moves: lock(&self.moves).clone(),
            hostile: lock(&self.hostile).clone(),
            deliveries: lock(&self.deliveries).clone(),
            viewers: lock(&self.viewers).clone(),
            stored,
        };
        (history, lock(&self.seen).clone())
    }
}

/// Ignores poisoning: the lists are valid after any panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
