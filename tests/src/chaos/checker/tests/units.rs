//! Units that were sold twice, wrongly refused, or miscounted.

use super::*;

#[test]
fn an_oversell() {
    // Three units of two, with counters that hide it.
    caught(Promise::NoOversell, |history| {
        sell(history, 8, 8, 10_000_000);
        sell(history, 9, 9, 11_000_000);
        history.stored.products[0] = Product {
            id: 1,
            stock: 0,
            held: 0,
            sold: 3,
            total: 3,
            hold_seconds: None,
            max_per_user: Some(2),
            waiting: 0,
        };
    });
    // Only for a moment, while user 3 held the second unit.
    caught(Promise::NoOversell, |history| sell(history, 9, 9, 6_100));
}

#[test]
fn an_undersell() {
    // The second unit was free again.
    caught(Promise::NoUndersell, |history| {
        history
            .operations
            .push(reserve(4_500, 4, refused("sold_out")));
    });
    // The hold was past its deadline.
    caught(Promise::NoUndersell, |history| {
        history
            .operations
            .push(reserve(5_000_000, 4, refused("sold_out")));
    });
    caught(Promise::NoUndersell, |history| {
        history.operations.push(reserve(5_000_000, 3, standing(3)));
    });
    // Another user's hold does not block a reserve.
    caught(Promise::NoUndersell, |history| {
        history.operations.push(reserve(6_000, 9, standing(3)));
    });
}

#[test]
fn a_refusal_that_overlaps_the_end_is_true() {
    // The cancel is in progress, and may not be committed before its answer.
    allowed(|history| {
        history
            .operations
            .push(reserve(3_990, 4, refused("sold_out")))
    });
    allowed(|history| history.operations.push(reserve(4_060, 2, standing(2))));
    // The end of the unanswered cancel is unknown.
    allowed(|history| {
        history
            .operations
            .push(reserve(7_500_000, 4, refused("sold_out")))
    });
    // The deadline is being moved.
    allowed(|history| {
        history
            .operations
            .push(reserve(8_002_050, 4, refused("sold_out")))
    });
}

#[test]
fn counters_that_disagree_with_the_rows() {
    caught(Promise::Conservation, |history| {
        history.stored.products[0].stock = 2
    });
    // A unit returned twice, by the counters.
    caught(Promise::Conservation, |history| {
        history.stored.products[0] = Product {
            id: 1,
            stock: 2,
            held: -1,
            sold: 1,
            total: 2,
            hold_seconds: None,
            max_per_user: Some(2),
            waiting: 0,
        };
    });
    caught(Promise::Conservation, |history| {
        history.stored.products[0] = Product {
            id: 1,
            stock: 2,
            held: 0,
            sold: 1,
            total: 3,
            hold_seconds: None,
            max_per_user: Some(2),
            waiting: 0,
        };
    });
}

#[test]
fn answers_with_counters_that_do_not_add_up() {
    caught(Promise::Conservation, |history| {
        let wrong = Product {
            id: 1,
            stock: 1,
            held: 1,
            sold: 1,
            total: 2,
            hold_seconds: None,
            max_per_user: Some(2),
            waiting: 0,
        };
        history
            .operations
            .push(ask(6_600, Request::Product(1), Answer::Product(wrong)));
    });
    caught(Promise::Conservation, |history| {
        let audit = Answer::Audit {
            clean: false,
            text: String::new(),
        };
        history.operations.push(ask(6_600, Request::Audit, audit));
    });
}
