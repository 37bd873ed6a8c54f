//! Plants each violation in a history that is clean without it.

mod after_sale;
mod events;
mod holds;
mod hostile;
mod keys;
mod line;
mod live;
mod rules;
mod units;

use super::{Promise, Violation, check};
use crate::chaos::{
    clock::Micros,
    history::{
        Act, Adjustment, Answer, Delivery, Entry, EntryStatus, Event, History, Hold, Move,
        Operation, Product, Request, Status, Stored, Told,
    },
};

const HOLD: Micros = 4_000_000;
const MAX_HOLD: Micros = 7_000_000;

/// One product with two units. User 1 buys one. User 2 holds the other and cancels. User 3 lets it expire; meanwhile
/// user 4 is refused. User 5 gets no answer, holds a unit, and gets no answer to the cancel either. User 6's hold has
/// its deadline moved.
#[expect(clippy::too_many_lines, reason = "it reads as one story")]
fn clean() -> History {
    let mut history = History {
        hold_micros: HOLD,
        max_hold_micros: MAX_HOLD,
        max_per_user: 2,
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
        hold_seconds: None,
        max_per_user: Some(2),
        waiting: 0,
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
    history.stored = Stored {
        read: 20_000_000,
        products: vec![Product {
            id: 1,
            stock: 1,
            held: 0,
            sold: 1,
            total: 2,
            hold_seconds: None,
            max_per_user: Some(2),
            waiting: 0,
        }],
        ..Stored::default()
    };
    // The first event, which arrives twice, is that of the sale.
    for redelivered in [false, true] {
        history.deliveries.push(Delivery {
            at: 2_500,
            event: "ReservationConfirmed 1".to_owned(),
            redelivered,
            version: Some(2),
            told: Some(told("ReservationConfirmed", &bought, 2_050)),
        });
    }
    history.stored.events.push(Event {
        id: "ReservationConfirmed 1".to_owned(),
        told: Some(told("ReservationConfirmed", &bought, 2_050)),
        published_at: Some(0),
        dead: false,
    });
    tell(&mut history, "ReservationCreated", &bought, 1_050);
    for row in [&given_back, &left, &unanswered, &moved] {
        tell(&mut history, "ReservationCreated", row, row.created);
        let ended = match row.status {
            Status::Canceled => "ReservationCanceled",
            _ => "ReservationExpired",
        };
        tell(&mut history, ended, row, row.ended.unwrap_or_default());
    }
    history.stored.holds = vec![bought, given_back, left, unanswered, moved];
    history
}

fn told(event_type: &str, row: &Hold, at: Micros) -> Told {
    Told {
        event_type: event_type.to_owned(),
        id: row.id,
        product: row.product,
        user: row.user,
        quantity: row.quantity,
        at,
    }
}

/// Adds an event that was written, published and received.
fn tell(history: &mut History, event_type: &str, row: &Hold, at: Micros) {
    let event = format!("{event_type} {}", row.id);
    let version = match event_type {
        "ReservationCreated" | "WaitlistOffered" => 1,
        "ReservationReturned" => 3,
        _ => 2,
    };
    let told = Some(told(event_type, row, at));
    history.stored.events.push(Event {
        id: event.clone(),
        told: told.clone(),
        published_at: Some(0),
        dead: false,
    });
    history.deliveries.push(Delivery {
        at,
        event,
        redelivered: false,
        version: Some(version),
        told,
    });
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
        confirmed: Some(ended).filter(|_| status == Status::Confirmed),
        reacquired_from: None,
        reference: None,
    }
}

/// The reservation in the answer to its reserve.
fn fresh(hold: &Hold) -> Hold {
    Hold {
        status: Status::Active,
        ended: None,
        confirmed: None,
        ..hold.clone()
    }
}

fn refused(code: &str) -> Answer {
    Answer::Refused {
        code: code.to_owned(),
        standing: None,
        product: None,
    }
}

fn standing(hold: i64) -> Answer {
    Answer::Refused {
        code: "already_reserved".to_owned(),
        standing: Some(hold),
        product: None,
    }
}

fn ask(began: Micros, request: Request, answer: Answer) -> Operation {
    Operation {
        client: 0,
        api: 0,
        began,
        ended: began + 100,
        request,
        key: None,
        answer,
        replayed: false,
    }
}

fn reserve(began: Micros, user: i64, answer: Answer) -> Operation {
    let request = Request::Reserve {
        product: 1,
        user,
        quantity: 1,
        reference: None,
    };
    ask(began, request, answer)
}

/// The checker finds the planted violation of this guarantee.
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

/// Adds a sold unit with everything that belongs to it.
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
    tell(history, "ReservationCreated", &row, created);
    tell(history, "ReservationConfirmed", &row, created + 50);
    history.stored.holds.push(row);
    history.stored.products[0].sold += 1;
    history.stored.products[0].stock -= 1;
}

#[test]
fn a_clean_history_passes() {
    allowed(|_| {});
    allowed(|history| sell(history, 9, 9, 10_000_000));
}
