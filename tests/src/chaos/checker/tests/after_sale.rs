//! Extensions, late payments, returns, adjustments, and several products at once.

use super::*;

/// User 6 pays late for the hold whose deadline was moved.
fn pay_late(history: &mut History, id: i64, at: Micros) {
    let mut row = hold(id, 6, at, Status::Confirmed, at);
    row.expires = at;
    row.reacquired_from = Some(5);
    tell(history, "ReservationConfirmed", &row, at);
    history.operations.push(ask(
        at - 50,
        Request::Reacquire(5),
        Answer::Hold(row.clone()),
    ));
    history.stored.holds.push(row);
    history.stored.products[0].sold += 1;
    history.stored.products[0].stock -= 1;
}

/// User 1's purchase is returned.
fn take_back(history: &mut History, at: Micros) {
    let row = &mut history.stored.holds[0];
    row.status = Status::Returned;
    row.ended = Some(at);
    let row = row.clone();
    tell(history, "ReservationReturned", &row, at);
    history
        .operations
        .push(ask(at - 50, Request::Return(1), Answer::Hold(row)));
    history.stored.products[0].sold -= 1;
    history.stored.products[0].stock += 1;
}

/// User 3's hold is extended by a second.
fn extend(history: &mut History) {
    let longer = 5_050 + HOLD + 1_000_000;
    let row = &mut history.stored.holds[2];
    row.expires = longer;
    let seen = fresh(row);
    row.ended = Some(longer);
    for event in &mut history.stored.events {
        if let Some(told) = &mut event.told
            && (told.id, told.event_type.as_str()) == (3, "ReservationExpired")
        {
            told.at = longer;
        }
    }
    for delivery in &mut history.deliveries {
        if let Some(told) = &mut delivery.told
            && (told.id, told.event_type.as_str()) == (3, "ReservationExpired")
        {
            told.at = longer;
        }
    }
    // And the answers that showed its end.
    history
        .operations
        .retain(|operation| operation.began < 5_000_000 || operation.began > 5_000_400);
    history
        .operations
        .push(ask(1_005_000, Request::Extend(3, 4), Answer::Hold(seen)));
}

fn adjust(history: &mut History, delta: i64, at: Micros) {
    let adjusted = Adjustment {
        id: 1,
        product: 1,
        delta,
        reason: "counted".to_owned(),
        at,
    };
    let row = &mut history.stored.products[0];
    row.total += delta;
    row.stock += delta;
    let request = Request::Adjust {
        product: 1,
        delta,
        reason: "counted".to_owned(),
    };
    let answer = Answer::Product(row.clone());
    history.operations.push(ask(at - 50, request, answer));
    let told = Told {
        event_type: "StockAdjusted".to_owned(),
        id: 1,
        product: 1,
        user: 0,
        quantity: delta,
        at,
    };
    history.stored.events.push(Event {
        id: "stock".to_owned(),
        told: Some(told.clone()),
        published_at: Some(0),
        dead: false,
    });
    history.deliveries.push(Delivery {
        at,
        event: "stock".to_owned(),
        redelivered: false,
        version: None,
        told: Some(told),
    });
    history.stored.adjustments.push(adjusted);
}

/// User 7 holds a unit of each of two products, and lets them expire.
fn hold_batch(history: &mut History, acknowledged: bool) {
    history.products.insert(2, 1);
    history.stored.products.push(Product {
        id: 2,
        stock: 1,
        held: 0,
        sold: 0,
        total: 1,
        hold_seconds: None,
        max_per_user: Some(2),
        waiting: 0,
    });
    let rows = [(8, 1), (9, 2)].map(|(id, product)| {
        let mut row = hold(id, 7, 9_000_050, Status::Expired, 9_000_050 + HOLD);
        row.product = product;
        row.reference = Some("cart".to_owned());
        row
    });
    for row in &rows {
        tell(history, "ReservationCreated", row, row.created);
        tell(history, "ReservationExpired", row, row.expires);
    }
    let request = Request::ReserveBatch {
        user: 7,
        items: vec![(1, 1), (2, 1)],
        reference: "cart".to_owned(),
    };
    let answer = match acknowledged {
        true => Answer::Holds(rows.iter().map(fresh).collect()),
        false => Answer::Unknown(String::new()),
    };
    history.operations.push(ask(9_000_000, request, answer));
    history.stored.holds.extend(rows);
}

/// As [`hold_batch`], where the second product's holds last five seconds and the first product's longer.
fn in_seconds(history: &mut History, seconds: i64) {
    hold_batch(history, true);
    let rows = history.stored.products.iter_mut();
    for (product, own) in rows.zip([9, 5]) {
        product.hold_seconds = Some(own);
        let change = Request::ChangeProduct {
            product: product.id,
            hold_seconds: Some(own),
            max_per_user: None,
        };
        let answer = Answer::Product(product.clone());
        history.operations.push(ask(8_900_000, change, answer));
    }
    let expires = 9_000_050 + seconds * 1_000_000;
    for row in history.stored.holds.iter_mut().rev().take(2) {
        (row.expires, row.ended) = (expires, Some(expires));
    }
    for operation in &mut history.operations {
        if let (Request::ReserveBatch { .. }, Answer::Holds(holds)) =
            (&operation.request, &mut operation.answer)
        {
            holds.iter_mut().for_each(|hold| hold.expires = expires);
        }
    }
    let events = history
        .stored
        .events
        .iter_mut()
        .map(|event| &mut event.told);
    let delivered = history
        .deliveries
        .iter_mut()
        .map(|delivery| &mut delivery.told);
    for told in events.chain(delivered).flatten() {
        if told.user == 7 && told.event_type == "ReservationExpired" {
            told.at = expires;
        }
    }
}

/// User 1's purchase is confirmed again, as an order of its own.
fn order(history: &mut History, answer: impl FnOnce(Hold) -> Answer) {
    let request = Request::Order(Act::Confirm, vec![1]);
    let answer = answer(history.stored.holds[0].clone());
    history.operations.push(ask(9_000_000, request, answer));
}

#[test]
fn what_goes_right_is_allowed() {
    allowed(|history| pay_late(history, 9, 9_000_000));
    allowed(|history| take_back(history, 9_000_000));
    allowed(extend);
    allowed(|history| adjust(history, 3, 9_000_000));
    allowed(|history| adjust(history, -1, 9_000_000));
    allowed(|history| hold_batch(history, true));
    allowed(|history| hold_batch(history, false));
    allowed(|history| in_seconds(history, 5));
    allowed(|history| order(history, |sale| Answer::Holds(vec![sale])));
    allowed(|history| order(history, |_| Answer::Overloaded));
    allowed(|history| order(history, |_| Answer::Unknown(String::new())));
}

#[test]
fn a_late_payment_that_buys_what_was_not_lost_or_buys_twice() {
    caught(Promise::ReacquiredOnce, |history| {
        pay_late(history, 8, 9_000_000);
        pay_late(history, 9, 9_100_000);
    });
    caught(Promise::ReacquiredOnce, |history| {
        pay_late(history, 9, 9_000_000);
        if let Some(row) = history.stored.holds.last_mut() {
            row.reacquired_from = Some(2);
        }
    });
    caught(Promise::ReacquiredOnce, |history| {
        pay_late(history, 9, 8_000_900)
    });
    // A sale needs a request.
    caught(Promise::NothingUnasked, |history| {
        pay_late(history, 9, 9_000_000);
        history.operations.pop();
    });
    // The second unit was free all the time.
    caught(Promise::NoUndersell, |history| {
        let refusal = refused("expired_sold_out");
        let asked = ask(9_000_000, Request::Reacquire(5), refusal);
        history.operations.push(asked);
    });
}

#[test]
fn a_return_that_frees_nothing_or_that_nobody_asked_for() {
    caught(Promise::Conservation, |history| {
        take_back(history, 9_000_000);
        history.stored.products[0].stock += 1;
        history.stored.products[0].sold -= 1;
    });
    caught(Promise::NothingUnasked, |history| {
        take_back(history, 9_000_000);
        history.operations.pop();
    });
    caught(Promise::OneEnd, |history| {
        let answer = Answer::Hold(Hold {
            status: Status::Returned,
            ended: Some(9_000_000),
            ..history.stored.holds[0].clone()
        });
        history
            .operations
            .push(ask(8_999_990, Request::Return(1), answer));
    });
    caught(Promise::NoUndersell, |history| {
        take_back(history, 9_000_000);
        let late = reserve(9_100_000, 4, refused("sold_out"));
        history.operations.push(late);
    });
}

#[test]
fn an_extension_that_is_not_kept() {
    // Expired at the old deadline. And the reverse: confirmed past the last deadline.
    caught(Promise::TrueAnswer, |history| {
        extend(history);
        let row = &mut history.stored.holds[2];
        row.expires = 5_050 + HOLD;
        row.ended = Some(row.expires);
    });
    caught(Promise::ExactDeadline, |history| {
        extend(history);
        let row = &mut history.stored.holds[2];
        row.status = Status::Confirmed;
        row.ended = Some(row.expires + 1);
        row.confirmed = row.ended;
    });
    // Beyond the maximum duration.
    caught(Promise::ExactDeadline, |history| {
        extend(history);
        let row = &mut history.stored.holds[2];
        row.expires = row.created + MAX_HOLD + 1;
        row.ended = Some(row.expires);
    });
    // Extended without a request.
    caught(Promise::ExactDeadline, |history| {
        extend(history);
        history.operations.pop();
    });
}

#[test]
fn an_adjustment_that_is_lost_or_made_up_or_takes_what_is_taken() {
    caught(Promise::TrueAnswer, |history| {
        adjust(history, 3, 9_000_000);
        history.stored.adjustments.clear();
    });
    caught(Promise::NothingUnasked, |history| {
        adjust(history, 3, 9_000_000);
        history.operations.pop();
    });
    caught(Promise::NothingUnasked, |history| {
        adjust(history, 3, 9_000_000);
        let again = history.stored.adjustments[0].clone();
        history.stored.adjustments.push(again);
    });
    caught(Promise::Conservation, |history| {
        adjust(history, 3, 9_000_000);
        history.stored.products[0].total -= 1;
        history.stored.products[0].stock -= 1;
    });
    // While user 3 held the second unit.
    caught(Promise::NoOversell, |history| adjust(history, -1, 6_100));
    caught(Promise::NoUndersell, |history| {
        let request = Request::Adjust {
            product: 1,
            delta: -1,
            reason: "counted".to_owned(),
        };
        let asked = ask(9_000_000, request, refused("insufficient_stock"));
        history.operations.push(asked);
    });
}

#[test]
fn a_batch_of_which_a_part_was_done() {
    for acknowledged in [true, false] {
        caught(Promise::AllOrNone, |history| {
            hold_batch(history, acknowledged);
            history.stored.holds.pop();
        });
        caught(Promise::AllOrNone, |history| {
            hold_batch(history, acknowledged);
            if let Some(row) = history.stored.holds.last_mut() {
                row.created += 1;
            }
        });
    }
    caught(Promise::AllOrNone, |history| {
        hold_batch(history, true);
        if let Some(Answer::Holds(holds)) =
            history.operations.last_mut().map(|last| &mut last.answer)
        {
            holds.pop();
        }
    });
}

#[test]
fn a_batch_whose_holds_do_not_end_with_the_shortest() {
    caught(Promise::ExactDeadline, |history| in_seconds(history, 9));
    caught(Promise::AllOrNone, |history| {
        hold_batch(history, true);
        if let Some(Answer::Holds(holds)) =
            history.operations.last_mut().map(|last| &mut last.answer)
        {
            holds[1].expires += 1;
        }
    });
}

#[test]
fn an_order_that_was_not_done_as_a_whole() {
    caught(Promise::AllOrNone, |history| {
        order(history, |_| Answer::Holds(vec![]));
    });
    caught(Promise::AllOrNone, |history| {
        order(history, |_| refused("reservation_canceled"));
    });
    let of = |code: &str, standing| Answer::Refused {
        code: code.to_owned(),
        standing: Some(standing),
        product: None,
    };
    caught(Promise::AllOrNone, |history| {
        order(history, |_| of("reservation_canceled", 2));
    });
    caught(Promise::OneEnd, |history| {
        order(history, |_| of("reservation_canceled", 1));
    });
    caught(Promise::OneEnd, |history| {
        order(history, |sale| {
            let status = Status::Canceled;
            Answer::Holds(vec![Hold { status, ..sale }])
        });
    });
}

#[test]
fn a_user_who_has_more_than_a_user_may_have() {
    caught(Promise::FairShare, |history| history.max_per_user = 0);
    // A late payment in addition to an earlier purchase.
    caught(Promise::FairShare, |history| {
        history.max_per_user = 1;
        sell(history, 9, 6, 8_500_000);
        pay_late(history, 10, 9_000_000);
    });
    // The user had nothing before.
    caught(Promise::NoUndersell, |history| {
        let asked = reserve(9_000_000, 4, refused("max_per_user_reached"));
        history.operations.push(asked);
    });
}
