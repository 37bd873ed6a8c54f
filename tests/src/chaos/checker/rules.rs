//! The rules of a sale, which PATCH changes during the sale.

use std::collections::HashMap;

use crate::chaos::{
    clock::Micros,
    history::{Answer, History, Hold, Operation, Product, Request},
};

pub(super) struct Rules<'a> {
    history: &'a History,
    changes: HashMap<i64, Vec<&'a Operation>>,
    /// The products of each reserve of several products, by its reference.
    batches: HashMap<&'a str, Vec<i64>>,
}

impl<'a> Rules<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut changes: HashMap<i64, Vec<&Operation>> = HashMap::new();
        let mut batches = HashMap::new();
        for operation in history.operations.iter().filter(|one| one.may_be_done()) {
            if let Request::ChangeProduct { product, .. } = operation.request {
                changes.entry(product).or_default().push(operation);
            }
            if let Request::ReserveBatch { reference, .. } = &operation.request {
                let items = operation.request.items().into_iter();
                batches.insert(
                    reference.as_str(),
                    items.map(|(product, _)| product).collect(),
                );
            }
        }
        Self {
            history,
            changes,
            batches,
        }
    }

    /// The possible durations of a new hold. The holds of one batch have the duration of the product with the shortest.
    pub(super) fn hold_micros(&self, hold: &Hold) -> Vec<Micros> {
        let reference = hold.reference.as_deref();
        let batch = reference.and_then(|reference| self.batches.get(reference));
        let products = batch.map_or(std::slice::from_ref(&hold.product), Vec::as_slice);
        let of_each: Vec<Vec<Micros>> = products
            .iter()
            .map(|product| {
                let seconds = self.hold_seconds(*product, (hold.created, hold.created));
                let micros = |seconds| seconds * 1_000_000;
                let seconds = seconds.into_iter();
                let own =
                    seconds.map(|own: Option<i64>| own.map_or(self.history.hold_micros, micros));
                own.collect()
            })
            .collect();
        let may_be_the_shortest = |lasts: &Micros| {
            let mut products = of_each.iter();
            products.all(|own| own.iter().any(|own| own >= lasts))
        };
        let all = of_each.iter().flatten().copied();
        all.filter(may_be_the_shortest).collect()
    }

    /// The lowest and highest limit of units per user in this time span.
    pub(super) fn limits(&self, product: i64, span: (Micros, Micros)) -> (i64, i64) {
        let limits = self.max_per_user(product, span).into_iter().flatten();
        let (fewest, most) = (limits.clone().min(), limits.max());
        // There is always at least one value.
        (fewest.unwrap_or(i64::MAX), most.unwrap_or(i64::MAX))
    }

    /// Whether these may have been the rules of a product at some moment of a time span.
    pub(super) fn may_be_those_of(&self, product: &Product, span: (Micros, Micros)) -> bool {
        let (of, seconds, limit) = (product.id, product.hold_seconds, product.max_per_user);
        self.hold_seconds(of, span).contains(&seconds)
            && self.max_per_user(of, span).contains(&limit)
    }

    fn hold_seconds(&self, product: i64, span: (Micros, Micros)) -> Vec<Option<i64>> {
        self.in_force(product, span, None, |request| match request {
            Request::ChangeProduct { hold_seconds, .. } => *hold_seconds,
            _ => None,
        })
    }

    fn max_per_user(&self, product: i64, span: (Micros, Micros)) -> Vec<Option<i64>> {
        let first = Some(self.history.max_per_user);
        self.in_force(product, span, first, |request| match request {
            Request::ChangeProduct { max_per_user, .. } => *max_per_user,
            _ => None,
        })
    }

    /// Every value that a rule may have had in a time span.
    ///
    /// A change takes the lock of the product's row, as every verb does that uses the rules. So it happens at one
    /// moment between its request and its answer, for all later lock holders. A value is out of force if an
    /// acknowledged change came between: one that was requested after the value's own change was acknowledged, and
    /// that was acknowledged before the time span. A change without an answer may happen at any moment after its
    /// request, or never. It replaces no other value for certain, and no other change replaces it, because it may
    /// come later still. The first value counts as acknowledged before all others.
    fn in_force(
        &self,
        product: i64,
        (from, to): (Micros, Micros),
        first: Option<i64>,
        value: impl Fn(&Request) -> Option<i64>,
    ) -> Vec<Option<i64>> {
        let changes = self.changes.get(&product).into_iter().flatten();
        let changes = changes.filter_map(|change| {
            let acknowledged = match change.answer {
                Answer::Unknown(_) => Micros::MAX,
                _ => change.ended,
            };
            Some((change.began, acknowledged, Some(value(&change.request)?)))
        });
        let all: Vec<_> = [(Micros::MIN, Micros::MIN, first)]
            .into_iter()
            .chain(changes)
            .collect();
        let over = |before: Micros| {
            let mut others = all.iter();
            others.any(|(began, acknowledged, _)| *began > before && *acknowledged < from)
        };
        all.iter()
            .filter(|(began, acknowledged, _)| *began <= to && !over(*acknowledged))
            .map(|(.., value)| *value)
            .collect()
    }
}
