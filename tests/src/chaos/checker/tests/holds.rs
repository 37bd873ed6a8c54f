//! Holds whose row does not match the answers.

use super::*;

#[test]
fn a_hold_with_two_ends() {
    caught(Promise::OneEnd, |history| {
        history.stored.holds[1].status = Status::Expired;
    });
    caught(Promise::OneEnd, |history| {
        history.operations.push(ask(
            6_000_000,
            Request::Confirm(2),
            refused("reservation_expired"),
        ));
    });
    caught(Promise::OneEnd, |history| {
        let active = fresh(&history.stored.holds[0]);
        history
            .operations
            .push(ask(9_000, Request::Get(1), Answer::Hold(active)));
    });
    caught(Promise::OneEnd, |history| {
        history.operations.push(ask(
            9_000,
            Request::Cancel(2),
            refused("reservation_confirmed"),
        ));
    });
}

#[test]
fn a_deadline_that_is_not_exact() {
    // Confirmed past the deadline.
    caught(Promise::ExactDeadline, |history| {
        history.stored.holds[0].expires = 2_000
    });
    // Expired before it.
    caught(Promise::ExactDeadline, |history| {
        history.stored.holds[2].ended = Some(6_000);
    });
    caught(Promise::ExactDeadline, |history| {
        history.operations.push(ask(
            6_000,
            Request::Confirm(3),
            refused("reservation_expired"),
        ));
    });
    // Moved without a request.
    caught(Promise::ExactDeadline, |history| history.moves.clear());
    // Confirmed in spite of a move.
    caught(Promise::ExactDeadline, |history| {
        history.moves.push(Move {
            holds: vec![1],
            began: 1_500,
            ended: 1_600,
            done: true,
        });
    });
    // A move that may not have happened proves nothing.
    allowed(|history| {
        history.moves.push(Move {
            holds: vec![1],
            began: 1_500,
            ended: 1_600,
            done: false,
        });
    });
}

#[test]
fn two_holds_of_a_user_on_a_product() {
    caught(Promise::OneHold, |history| {
        let second = hold(9, 3, 5_060, Status::Canceled, 5_070);
        history
            .operations
            .push(reserve(5_020, 3, Answer::Hold(fresh(&second))));
        history
            .operations
            .push(ask(5_065, Request::Cancel(9), Answer::Hold(second.clone())));
        history.stored.holds.push(second);
    });
}

#[test]
fn an_acknowledged_answer_that_is_not_true() {
    // Lost: a hold, a sale, a product.
    caught(Promise::TrueAnswer, |history| {
        history.stored.holds.remove(1);
    });
    caught(Promise::OneEnd, |history| {
        history.stored.holds[0].status = Status::Expired
    });
    caught(Promise::TrueAnswer, |history| {
        history.stored.products.clear()
    });
    // The sale has another time.
    caught(Promise::TrueAnswer, |history| {
        history.stored.holds[0].ended = Some(2_051)
    });
    // One hold with two owners.
    caught(Promise::TrueAnswer, |history| {
        let first = history.operations[0].clone();
        history.operations.push(first);
    });
    // The answer to another request.
    caught(Promise::TrueAnswer, |history| {
        history.operations[0].request = Request::Confirm(7)
    });
    caught(Promise::TrueAnswer, |history| {
        history.operations[13].request = Request::ListOfUser(1)
    });
    caught(Promise::TrueAnswer, |history| {
        history.operations.push(ask(
            9_000,
            Request::Confirm(1),
            refused("reservation_not_found"),
        ));
    });
    caught(Promise::TrueAnswer, |history| {
        history.operations.push(ask(
            9_000,
            Request::Get(1),
            Answer::Strange("500".to_owned()),
        ));
    });
}

#[test]
fn what_nobody_asked_for() {
    caught(Promise::NothingUnasked, |history| {
        history
            .stored
            .holds
            .push(hold(9, 9, 9_000_000, Status::Expired, 9_000_000 + HOLD));
    });
    // Two holds of one unanswered reserve.
    caught(Promise::NothingUnasked, |history| {
        history
            .stored
            .holds
            .push(hold(9, 5, 9_000_000, Status::Expired, 9_000_000 + HOLD));
    });
    // Answered with "nothing was done", but done.
    caught(Promise::NothingUnasked, |history| {
        history.operations[14].answer = Answer::Overloaded
    });
    caught(Promise::NothingUnasked, |history| {
        history.operations[15].answer = Answer::Overloaded
    });
    // A confirm that was refused, but done.
    caught(Promise::NothingUnasked, |history| {
        history.operations[1].answer = refused("reservation_expired");
    });
}

#[test]
fn a_hold_that_nobody_swept() {
    caught(Promise::Swept, |history| {
        history.stored.holds[2].status = Status::Active;
        history.stored.holds[2].ended = None;
        history.stored.products[0] = Product {
            id: 1,
            stock: 0,
            held: 1,
            sold: 1,
            total: 2,
            hold_seconds: None,
            max_per_user: Some(2),
            waiting: 0,
        };
    });
}

#[test]
fn a_timer_that_stays() {
    caught(Promise::TimersGone, |history| history.stored.timers.push(3));
}
