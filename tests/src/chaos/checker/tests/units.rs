//! Units that were given out too often, or not at all, or miscounted.

use super::*;

#[test]
fn an_oversell() {
    // Three units of two, counters that hide it included.
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
        };
    });
    // For a moment only, while user 3 held the second unit.
    caught(Promise::NoOversell, |history| sell(history, 9, 9, 6_100));
}

#[test]
fn an_undersell() {
    // The second unit had been given back.
    caught(Promise::NoUndersell, |history| {
        history
            .operations
            .push(reserve(4_500, 4, refused("sold_out")));
    });
    // The hold was past its deadline, swept or not.
    caught(Promise::NoUndersell, |history| {
        history
            .operations
            .push(reserve(5_000_000, 4, refused("sold_out")));
    });
    caught(Promise::NoUndersell, |history| {
        history.operations.push(reserve(5_000_000, 3, standing(3)));
    });
    // Another user's hold is in nobody's way.
    caught(Promise::NoUndersell, |history| {
        history.operations.push(reserve(6_000, 9, standing(3)));
    });
}

#[test]
fn a_refusal_that_overlaps_the_end_is_true() {
    // The cancel is in progress: it is not committed to who came before its answer.
    allowed(|history| {
        history
            .operations
            .push(reserve(3_990, 4, refused("sold_out")))
    });
    allowed(|history| history.operations.push(reserve(4_060, 2, standing(2))));
    // Until when the unanswered cancel took, nobody knows.
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
    // Stock returned twice, as the counters see it.
    caught(Promise::Conservation, |history| {
        history.stored.products[0] = Product {
            id: 1,
            stock: 2,
            held: -1,
            sold: 1,
            total: 2,
            hold_seconds: None,
            max_per_user: Some(2),
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
