//! Repeated requests with an `Idempotency-Key`.

use super::*;

/// An attempt with a key, which takes some time.
fn attempt(began: Micros, request: Request, answer: Answer) -> Operation {
    Operation {
        key: Some("key".to_owned()),
        ..ask(began, request, answer)
    }
}

fn replayed(operation: Operation) -> Operation {
    Operation {
        replayed: true,
        ..operation
    }
}

fn unknown() -> Answer {
    Answer::Unknown(String::new())
}

fn wanted() -> Request {
    Request::Reserve {
        product: 1,
        user: 7,
        quantity: 1,
        reference: Some("cart".to_owned()),
    }
}

/// User 7's hold, created by the reserve with the key.
fn made(id: i64, at: Micros) -> Hold {
    let mut row = hold(id, 7, at, Status::Expired, at + HOLD);
    row.reference = Some("cart".to_owned());
    row
}

fn store(history: &mut History, row: &Hold) {
    tell(history, "ReservationCreated", row, row.created);
    tell(history, "ReservationExpired", row, row.expires);
    history.stored.holds.push(row.clone());
}

/// The first attempt has no answer. Of two at once, one finds the key in use and one gets the answer. A late one gets
/// it, too.
fn reserve_again_and_again(history: &mut History) -> Hold {
    let row = made(8, 9_000_050);
    store(history, &row);
    let answer = || Answer::Hold(fresh(&row));
    history.operations.extend([
        attempt(8_990_000, wanted(), Answer::Overloaded),
        attempt(9_000_000, wanted(), unknown()),
        attempt(9_000_200, wanted(), Answer::InUse),
        replayed(attempt(9_000_210, wanted(), answer())),
        // When the hold is long past its deadline.
        replayed(attempt(15_000_000, wanted(), answer())),
        attempt(15_000_200, wanted(), unknown()),
    ]);
    row
}

fn adjust(history: &mut History, answers: impl IntoIterator<Item = Operation>, times: usize) {
    history.operations.extend(answers);
    for id in 1..=times as i64 {
        let row = Adjustment {
            id,
            product: 1,
            delta: 3,
            reason: "counted".to_owned(),
            at: 9_000_050,
        };
        let told = Told {
            event_type: "StockAdjusted".to_owned(),
            id,
            product: 1,
            user: 0,
            quantity: 3,
            at: row.at,
        };
        let event = format!("stock {id}");
        history.stored.events.push(Event {
            id: event.clone(),
            told: Some(told.clone()),
            published_at: Some(0),
            dead: false,
        });
        history.deliveries.push(Delivery {
            at: row.at,
            event,
            redelivered: false,
            version: None,
            told: Some(told),
        });
        history.stored.adjustments.push(row);
        history.stored.products[0].stock += 3;
        history.stored.products[0].total += 3;
    }
}

fn adjustment() -> Request {
    Request::Adjust {
        product: 1,
        delta: 3,
        reason: "counted".to_owned(),
    }
}

fn adjusted() -> Answer {
    Answer::Product(Product {
        id: 1,
        stock: 4,
        held: 0,
        sold: 1,
        total: 5,
        hold_seconds: None,
        max_per_user: Some(2),
        waiting: 0,
    })
}

fn create() -> Request {
    Request::CreateProduct("a sale".to_owned(), 2)
}

fn created(id: i64) -> Answer {
    Answer::Product(product(id))
}

fn product(id: i64) -> Product {
    Product {
        id,
        stock: 5,
        held: 0,
        sold: 0,
        total: 5,
        hold_seconds: None,
        max_per_user: Some(2),
        waiting: 0,
    }
}

fn put_on_sale(history: &mut History, id: i64) {
    history.products.insert(id, 5);
    history.stored.products.push(product(id));
    history.stored.names.insert(id, "a sale".to_owned());
}

#[test]
fn one_answer_and_one_effect_are_allowed() {
    allowed(|history| drop(reserve_again_and_again(history)));
    // No client got an answer: the reserve may be done or not.
    for times in [0, 1] {
        allowed(|history| {
            let attempts = [9_000_000, 9_000_200];
            let attempts = attempts.map(|at| attempt(at, adjustment(), unknown()));
            adjust(history, attempts, times);
        });
    }
    // Two at once, of which the slower one did the work.
    allowed(|history| {
        let slow = attempt(9_000_000, adjustment(), adjusted());
        let attempts = [slow, replayed(attempt(8_999_990, adjustment(), adjusted()))];
        adjust(history, attempts, 1);
    });
    allowed(|history| {
        put_on_sale(history, 2);
        let first = attempt(9_000_000, create(), unknown());
        let again = replayed(attempt(9_000_200, create(), created(2)));
        history.operations.extend([first, again]);
    });
    // A stored refusal stays, although the request would now succeed.
    allowed(|history| {
        let refused = || refused("sold_out");
        let first = attempt(6_000, wanted(), refused());
        let again = replayed(attempt(9_000_000, wanted(), refused()));
        history.operations.extend([first, again]);
    });
}

#[test]
fn a_second_answer() {
    for other in [
        standing(8),
        refused("sold_out"),
        Answer::Hold(made(9, 9_000_300)),
    ] {
        caught(Promise::OnceUnderAKey, |history| {
            reserve_again_and_again(history);
            let other = replayed(attempt(9_000_300, wanted(), other));
            history.operations.push(other);
        });
    }
    // The work of another time.
    caught(Promise::OnceUnderAKey, |history| {
        let row = reserve_again_and_again(history);
        let mut later = fresh(&row);
        later.expires += 1;
        let later = replayed(attempt(9_000_300, wanted(), Answer::Hold(later)));
        history.operations.push(later);
    });
    // A refusal that was not stored.
    caught(Promise::OnceUnderAKey, |history| {
        let row = made(8, 9_000_050);
        store(history, &row);
        let refused = attempt(6_000, wanted(), refused("sold_out"));
        let again = attempt(9_000_000, wanted(), Answer::Hold(fresh(&row)));
        history.operations.extend([refused, again]);
    });
}

#[test]
fn a_second_effect() {
    // Only the reference shows that it belongs to this request.
    caught(Promise::OnceUnderAKey, |history| {
        reserve_again_and_again(history);
        store(history, &made(9, 14_000_050));
        history.operations.push(reserve(14_000_000, 7, unknown()));
    });
    caught(Promise::OnceUnderAKey, |history| {
        let attempts = [9_000_000, 9_000_200].map(|at| attempt(at, adjustment(), unknown()));
        adjust(history, attempts, 2);
    });
    caught(Promise::OnceUnderAKey, |history| {
        put_on_sale(history, 2);
        put_on_sale(history, 3);
        let first = attempt(9_000_000, create(), unknown());
        let again = replayed(attempt(9_000_200, create(), created(3)));
        history.operations.extend([first, again]);
    });
    // Both answers claim to have done the work.
    caught(Promise::OnceUnderAKey, |history| {
        let twice = [9_000_000, 9_000_200].map(|at| attempt(at, adjustment(), adjusted()));
        adjust(history, twice, 1);
    });
    // An extension that was done twice.
    caught(Promise::ExactDeadline, |history| {
        let (first, second) = (9_000_050 + HOLD + 1_000_000, 9_000_050 + HOLD + 2_000_000);
        let mut row = hold(8, 7, 9_000_050, Status::Expired, second);
        row.expires = second;
        store(history, &row);
        let seen = |expires| {
            Answer::Hold(Hold {
                expires,
                ..fresh(&row)
            })
        };
        let extend = || Request::Extend(8, 4);
        history.operations.extend([
            reserve(9_000_000, 7, seen(9_000_050 + HOLD)),
            attempt(10_000_000, extend(), seen(first)),
            replayed(attempt(11_000_000, extend(), seen(first))),
        ]);
    });
}

#[test]
fn an_effect_in_spite_of_the_answer() {
    for answer in [refused("sold_out"), Answer::Overloaded] {
        caught(Promise::OnceUnderAKey, |history| {
            store(history, &made(8, 9_000_050));
            history
                .operations
                .push(attempt(9_000_000, wanted(), answer));
        });
    }
    caught(Promise::OnceUnderAKey, |history| {
        let attempts = [
            attempt(9_000_000, adjustment(), unknown()),
            attempt(9_000_200, adjustment(), refused("insufficient_stock")),
        ];
        adjust(history, attempts, 1);
    });
}

#[test]
fn an_act_at_another_time_than_any_attempt() {
    // Before the first attempt that may have done it.
    caught(Promise::TrueAnswer, |history| {
        let row = made(8, 8_990_050);
        store(history, &row);
        let answer = Answer::Hold(fresh(&row));
        history.operations.extend([
            attempt(8_990_000, wanted(), Answer::Overloaded),
            attempt(9_000_000, wanted(), unknown()),
            replayed(attempt(9_000_210, wanted(), answer)),
        ]);
    });
    // Not replayed, but done before its own attempt.
    caught(Promise::TrueAnswer, |history| {
        let row = made(8, 8_990_050);
        store(history, &row);
        history.operations.extend([
            attempt(8_990_000, wanted(), unknown()),
            attempt(9_000_000, wanted(), Answer::Hold(fresh(&row))),
        ]);
    });
    // After the first answer that has it.
    caught(Promise::OnceUnderAKey, |history| {
        let attempts = [
            attempt(8_000_000, adjustment(), unknown()),
            replayed(attempt(8_500_000, adjustment(), adjusted())),
            attempt(9_000_000, adjustment(), adjusted()),
        ];
        adjust(history, attempts, 1);
    });
}

#[test]
fn a_replay_of_nothing_and_a_key_that_nobody_uses() {
    caught(Promise::OnceUnderAKey, |history| {
        let alone = replayed(attempt(9_000_000, adjustment(), adjusted()));
        adjust(history, [alone], 1);
    });
    caught(Promise::OnceUnderAKey, |history| {
        history.operations[0].replayed = true;
    });
    caught(Promise::OnceUnderAKey, |history| {
        let alone = attempt(9_000_000, wanted(), Answer::InUse);
        history.operations.push(alone);
    });
    caught(Promise::OnceUnderAKey, |history| {
        reserve_again_and_again(history);
        let late = attempt(16_000_000, wanted(), Answer::InUse);
        history.operations.push(late);
    });
    caught(Promise::TrueAnswer, |history| {
        let asked = ask(9_000_000, Request::Cancel(2), Answer::InUse);
        history.operations.push(asked);
    });
}

#[test]
fn a_product_that_nobody_asked_for() {
    caught(Promise::NothingUnasked, |history| put_on_sale(history, 2));
    caught(Promise::NothingUnasked, |history| {
        put_on_sale(history, 2);
        put_on_sale(history, 3);
        let asked = ask(9_000_000, create(), unknown());
        history.operations.push(asked);
    });
}
