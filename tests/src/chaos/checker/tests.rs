//! Each violation, planted in a history that is clean without it.

use super::{Promise, Violation, check};
use crate::chaos::history::{
    Answer, Delivery, Event, History, Hold, Micros, Move, Operation, Product, Request, Sale,
    Status, Stored,
};

const HOLD: Micros = 4_000_000;

/// One product with two units. User 1 buys one. User 2 holds the other and gives it back. User 3 lets it
/// expire; meanwhile user 4 finds nothing. User 5 gets no answer, holds a unit, and gets no answer to
/// the cancel either. User 6's hold has its deadline moved.
fn clean() -> History {
    let mut history = History {
        hold_micros: HOLD,
        products: [(1, 2)].into(),
        ..History::default()
    };
    let bought = hold(1, 1, 1_050, Status::Confirmed, 2_050);
    let given_back = hold(2, 2, 3_050, Status::Canceled, 4_050);
    let left = hold(3, 3, 5_050, Status::Expired, 5_050 + HOLD);
    let unanswered = hold(4, 5, 7_000_050, Status::Canceled, 7_001_050);
    let mut moved = hold(5, 6, 8_000_050, Status::Expired, 8_001_000);
    moved.expires = 8_001_000;

    let asked = &mut history.operations;
    asked.push(reserve(1_000, 1, Answer::Hold(fresh(&bought))));
    asked.push(ask(
        2_000,
        Request::Confirm(1),
        Answer::Hold(bought.clone()),
    ));
    asked.push(ask(
        2_200,
        Request::Cancel(1),
        refused("reservation_confirmed"),
    ));
    asked.push(reserve(3_000, 2, Answer::Hold(fresh(&given_back))));
    asked.push(ask(
        4_000,
        Request::Cancel(2),
        Answer::Hold(given_back.clone()),
    ));
    asked.push(ask(
        4_200,
        Request::Confirm(2),
        refused("reservation_canceled"),
    ));
    asked.push(reserve(5_000, 3, Answer::Hold(fresh(&left))));
    asked.push(reserve(6_000, 4, refused("sold_out")));
    asked.push(reserve(6_200, 3, standing(3)));
    asked.push(ask(6_400, Request::Get(3), Answer::Hold(fresh(&left))));
    let counters = Product {
        id: 1,
        stock: 0,
        held: 1,
        sold: 1,
        total: 2,
    };
    asked.push(ask(6_600, Request::Product(1), Answer::Product(counters)));
    asked.push(ask(5_000_000, Request::Get(3), Answer::Hold(left.clone())));
    asked.push(ask(
        5_000_200,
        Request::Confirm(3),
        refused("reservation_expired"),
    ));
    asked.push(ask(
        5_000_400,
        Request::ListOfUser(3),
        Answer::Holds(vec![left.clone()]),
    ));
    asked.push(reserve(7_000_000, 5, Answer::Unknown(String::new())));
    asked.push(ask(
        7_001_000,
        Request::Cancel(4),
        Answer::Unknown(String::new()),
    ));
    asked.push(reserve(8_000_000, 6, Answer::Hold(fresh(&moved))));
    history.operations[16].answer = Answer::Hold(Hold {
        expires: 8_000_050 + HOLD,
        ..fresh(&moved)
    });

    history.moves.push(Move {
        holds: vec![5],
        began: 8_001_900,
        ended: 8_002_100,
        done: true,
    });
    let sale = Sale {
        hold: 1,
        product: 1,
        user: 1,
        quantity: 1,
        confirmed: 2_050,
    };
    for redelivered in [false, true] {
        let (event, sale) = ("a".to_owned(), Some(sale.clone()));
        history.deliveries.push(Delivery {
            at: 2_500,
            event,
            redelivered,
            sale,
        });
    }
    history.stored = Stored {
        read: 20_000_000,
        products: vec![Product {
            id: 1,
            stock: 1,
            held: 0,
            sold: 1,
            total: 2,
        }],
        holds: vec![bought, given_back, left, unanswered, moved],
        events: vec![Event {
            id: "a".to_owned(),
            sale: Some(sale),
            published: true,
            dead: false,
        }],
        timers: Vec::new(),
    };
    history
}

fn hold(id: i64, user: i64, created: Micros, status: Status, ended: Micros) -> Hold {
    let expires = created + HOLD;
    Hold {
        id,
        product: 1,
        user,
        quantity: 1,
        status,
        created,
        expires,
        ended: Some(ended),
    }
}

/// As it was answered when it was made.
fn fresh(hold: &Hold) -> Hold {
    Hold {
        status: Status::Active,
        ended: None,
        ..hold.clone()
    }
}

fn refused(code: &str) -> Answer {
    Answer::Refused {
        code: code.to_owned(),
        standing: None,
    }
}

fn standing(hold: i64) -> Answer {
    Answer::Refused {
        code: "already_reserved".to_owned(),
        standing: Some(hold),
    }
}

fn ask(began: Micros, request: Request, answer: Answer) -> Operation {
    Operation {
        client: 0,
        api: 0,
        began,
        ended: began + 100,
        request,
        answer,
    }
}

fn reserve(began: Micros, user: i64, answer: Answer) -> Operation {
    ask(began, Request::Reserve { product: 1, user }, answer)
}

/// The planted violation is found, as a breach of this promise.
#[track_caller]
fn caught(promise: Promise, plant: impl FnOnce(&mut History)) {
    let mut history = clean();
    plant(&mut history);
    let found = check(&history);
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    let right = |violation: &Violation| violation.promise == promise;
    assert!(
        found.iter().any(right),
        "not found as {promise:?}: {told:#?}"
    );
}

#[track_caller]
fn allowed(plant: impl FnOnce(&mut History)) {
    let mut history = clean();
    plant(&mut history);
    let told: Vec<String> = check(&history).iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{told:#?}");
}

/// Another sold unit, with all that belongs to it.
fn sell(history: &mut History, id: i64, user: i64, created: Micros) {
    let row = hold(id, user, created, Status::Confirmed, created + 50);
    history
        .operations
        .push(reserve(created - 10, user, Answer::Hold(fresh(&row))));
    history.operations.push(ask(
        created + 20,
        Request::Confirm(id),
        Answer::Hold(row.clone()),
    ));
    let sale = Sale {
        hold: id,
        product: 1,
        user,
        quantity: 1,
        confirmed: created + 50,
    };
    let (event, sale) = (id.to_string(), Some(sale));
    history.stored.events.push(Event {
        id: event.clone(),
        sale: sale.clone(),
        published: true,
        dead: false,
    });
    history.deliveries.push(Delivery {
        at: created + 60,
        event,
        redelivered: false,
        sale,
    });
    history.stored.holds.push(row);
    history.stored.products[0].sold += 1;
    history.stored.products[0].stock -= 1;
}

#[test]
fn a_clean_history_passes() {
    allowed(|_| {});
    allowed(|history| sell(history, 9, 9, 10_000_000));
}

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
        };
    });
    caught(Promise::Conservation, |history| {
        history.stored.products[0] = Product {
            id: 1,
            stock: 2,
            held: 0,
            sold: 1,
            total: 3,
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
    // Moved by nobody.
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
    // A move that may not have been done says nothing.
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
        drop(history.stored.holds.remove(1))
    });
    caught(Promise::OneEnd, |history| {
        history.stored.holds[0].status = Status::Expired
    });
    caught(Promise::TrueAnswer, |history| {
        history.stored.products.clear()
    });
    // The sale was made at another time.
    caught(Promise::TrueAnswer, |history| {
        history.stored.holds[0].ended = Some(2_051)
    });
    // One hold, two owners.
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
    // Of one unanswered reserve, two holds.
    caught(Promise::NothingUnasked, |history| {
        history
            .stored
            .holds
            .push(hold(9, 5, 9_000_000, Status::Expired, 9_000_000 + HOLD));
    });
    // "Nothing was done", and it was.
    caught(Promise::NothingUnasked, |history| {
        history.operations[14].answer = Answer::Overloaded
    });
    caught(Promise::NothingUnasked, |history| {
        history.operations[15].answer = Answer::Overloaded
    });
    // A refused confirm that sold it after all.
    caught(Promise::NothingUnasked, |history| {
        history.operations[1].answer = refused("reservation_expired");
    });
}

#[test]
fn an_event_that_is_lost() {
    caught(Promise::NoLostEvent, |history| history.deliveries.clear());
    caught(Promise::NoLostEvent, |history| {
        history.stored.events.clear()
    });
    caught(Promise::NoLostEvent, |history| {
        history.stored.events[0].published = false
    });
    caught(Promise::NoLostEvent, |history| {
        history.stored.events[0].dead = true
    });
}

#[test]
fn an_event_that_is_not_true() {
    // Of a hold that was canceled.
    caught(Promise::TrueEvent, |history| {
        let sale = Sale {
            hold: 2,
            product: 1,
            user: 2,
            quantity: 1,
            confirmed: 4_050,
        };
        history.stored.events[0].sale = Some(sale);
    });
    // Two for one sale.
    caught(Promise::TrueEvent, |history| {
        let again = Event {
            id: "b".to_owned(),
            ..history.stored.events[0].clone()
        };
        history.stored.events.push(again);
    });
    // Changed on the way, or made up.
    caught(Promise::TrueEvent, |history| {
        if let Some(sale) = &mut history.deliveries[1].sale {
            sale.user = 7;
        }
    });
    caught(Promise::TrueEvent, |history| {
        history.deliveries[1].event = "b".to_owned()
    });
    caught(Promise::TrueEvent, |history| {
        history.deliveries[1].sale = None
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
        };
    });
}

#[test]
fn a_timer_that_stays() {
    caught(Promise::TimersGone, |history| history.stored.timers.push(3));
}
