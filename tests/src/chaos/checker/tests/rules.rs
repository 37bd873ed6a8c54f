//! Rules that change during a sale.

use super::*;

fn change(began: Micros, hold_seconds: Option<i64>, max_per_user: Option<i64>) -> Operation {
    let request = Request::ChangeProduct {
        product: 1,
        hold_seconds,
        max_per_user,
    };
    ask(began, request, Answer::Unknown(String::new()))
}

/// An acknowledged change of both rules, in the answer and in the database.
fn patch(history: &mut History, began: Micros, hold_seconds: i64, max_per_user: i64) {
    let row = &mut history.stored.products[0];
    row.hold_seconds = Some(hold_seconds);
    row.max_per_user = Some(max_per_user);
    let answer = Answer::Product(row.clone());
    let mut patch = change(began, Some(hold_seconds), Some(max_per_user));
    patch.answer = answer;
    history.operations.push(patch);
}

/// User 7's hold of this duration, which is left to expire.
fn reserve_for(history: &mut History, seconds: i64, began: Micros) {
    let created = began + 50;
    let expires = created + seconds * 1_000_000;
    let mut row = hold(8, 7, created, Status::Expired, expires);
    row.expires = expires;
    tell(history, "ReservationCreated", &row, created);
    tell(history, "ReservationExpired", &row, expires);
    history
        .operations
        .push(reserve(began, 7, Answer::Hold(fresh(&row))));
    history.stored.holds.push(row);
}

/// User 1, who has bought one unit, buys another.
fn buy_another(history: &mut History) {
    sell(history, 8, 1, 10_000_000);
}

const REFUSAL: &str = "max_per_user_reached";

fn refuse(history: &mut History, began: Micros) {
    history.operations.push(reserve(began, 1, refused(REFUSAL)));
}

#[test]
fn a_rule_is_in_force_from_its_change_on() {
    allowed(|history| {
        patch(history, 9_000_000, 6, 2);
        reserve_for(history, 6, 9_100_000);
    });
    // Before the change, or during it.
    allowed(|history| {
        patch(history, 9_000_000, 6, 2);
        reserve_for(history, 4, 8_900_000);
    });
    for seconds in [4, 6] {
        allowed(|history| {
            patch(history, 9_000_000, 6, 2);
            reserve_for(history, seconds, 9_000_020);
        });
    }
    // Of two concurrent changes, either may be the first.
    for seconds in [5, 6] {
        allowed(|history| {
            patch(history, 9_000_000, 6, 2);
            patch(history, 9_000_050, 5, 2);
            reserve_for(history, seconds, 9_100_000);
        });
    }
    for (seconds, began) in [(4, 9_100_000), (6, 8_900_000), (5, 9_100_000)] {
        caught(Promise::ExactDeadline, |history| {
            patch(history, 9_000_000, 6, 2);
            reserve_for(history, seconds, began);
        });
        caught(Promise::TrueAnswer, |history| {
            patch(history, 9_000_000, 6, 2);
            reserve_for(history, seconds, began);
        });
    }
    caught(Promise::ExactDeadline, |history| {
        patch(history, 9_000_000, 6, 2);
        patch(history, 9_000_200, 5, 2);
        reserve_for(history, 6, 9_100_000);
    });
}

#[test]
fn a_change_without_an_answer_comes_at_any_time_or_never() {
    for seconds in [4, 6] {
        allowed(|history| {
            history.operations.push(change(9_000_000, Some(6), None));
            reserve_for(history, seconds, 9_100_000);
        });
    }
    // Also after other acknowledged changes.
    for seconds in [5, 6] {
        allowed(|history| {
            history.operations.push(change(8_900_000, Some(6), None));
            patch(history, 9_000_000, 5, 2);
            reserve_for(history, seconds, 9_100_000);
        });
    }
    // But not before its request. And it does not restore an earlier value.
    caught(Promise::ExactDeadline, |history| {
        reserve_for(history, 6, 8_900_000);
        history.operations.push(change(9_000_000, Some(6), None));
    });
    caught(Promise::ExactDeadline, |history| {
        history.operations.push(change(8_900_000, Some(6), None));
        patch(history, 9_000_000, 5, 2);
        reserve_for(history, 4, 9_100_000);
    });
    // A change that was not done.
    caught(Promise::ExactDeadline, |history| {
        let mut refused = change(9_000_000, Some(6), None);
        refused.answer = Answer::Overloaded;
        history.operations.push(refused);
        reserve_for(history, 6, 9_100_000);
    });
}

#[test]
fn a_fair_share_is_that_of_the_time_when_units_are_taken() {
    // A user who has more than a later limit keeps it.
    allowed(|history| {
        buy_another(history);
        patch(history, 10_100_000, 4, 1);
    });
    caught(Promise::FairShare, |history| {
        patch(history, 9_000_000, 4, 1);
        buy_another(history);
    });
    allowed(|history| {
        history.operations.push(change(9_000_000, None, Some(1)));
        buy_another(history);
    });
    caught(Promise::FairShare, |history| {
        history.max_per_user = 1;
        buy_another(history);
        patch(history, 10_100_000, 4, 2);
    });
}

#[test]
fn a_refusal_by_a_limit_that_was_in_force() {
    allowed(|history| {
        patch(history, 9_000_000, 4, 1);
        refuse(history, 9_100_000);
    });
    allowed(|history| {
        history.operations.push(change(9_000_000, None, Some(1)));
        refuse(history, 9_100_000);
    });
    caught(Promise::NoUndersell, |history| {
        patch(history, 9_000_000, 4, 1);
        refuse(history, 8_900_000);
    });
    caught(Promise::NoUndersell, |history| {
        patch(history, 8_000_000, 4, 1);
        patch(history, 9_000_000, 4, 3);
        refuse(history, 9_100_000);
    });
}

#[test]
fn a_change_that_is_lost_or_shown_wrongly() {
    caught(Promise::TrueAnswer, |history| {
        patch(history, 9_000_000, 6, 2);
        history.stored.products[0].hold_seconds = None;
    });
    caught(Promise::TrueAnswer, |history| {
        history.stored.products[0].max_per_user = Some(3);
    });
    let shows = |history: &mut History, began, limit| {
        let mut row = history.stored.products[0].clone();
        row.max_per_user = Some(limit);
        row.hold_seconds = row.hold_seconds.filter(|_| began > 9_000_000);
        let answer = Answer::Product(row);
        let asked = ask(began, Request::Product(1), answer);
        history.operations.push(asked);
    };
    for (began, limit) in [(9_100_000, 3), (8_900_000, 2)] {
        allowed(|history| {
            patch(history, 9_000_000, 4, 3);
            shows(history, began, limit);
        });
    }
    for (began, limit) in [(9_100_000, 2), (8_900_000, 3)] {
        caught(Promise::TrueAnswer, |history| {
            patch(history, 9_000_000, 4, 3);
            shows(history, began, limit);
        });
    }
    // The answer shows the value of a concurrent change.
    caught(Promise::TrueAnswer, |history| {
        patch(history, 9_000_000, 4, 3);
        let row = history.stored.products[0].clone();
        let mut other = change(9_000_010, None, Some(2));
        other.answer = Answer::Product(row);
        history.operations.push(other);
    });
}
