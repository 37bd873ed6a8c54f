//! Waitlists: who was overtaken, who got what others waited for, and what nobody asked for.

use super::*;

/// User 7 waits while user 3 holds the last unit, gets it when that hold expires, and gives it back.
fn wait(history: &mut History) {
    let entry = Entry {
        id: 1,
        product: 1,
        user: 7,
        quantity: 1,
        status: EntryStatus::Offered,
        reference: Some("7-1".to_owned()),
        hold: Some(20),
        created: 6_150,
        ended: Some(4_005_060),
    };
    let waiting = Entry {
        status: EntryStatus::Waiting,
        hold: None,
        ended: None,
        ..entry.clone()
    };
    let mut offered = hold(20, 7, 4_005_060, Status::Canceled, 4_006_050);
    offered.reference = Some("7-1".to_owned());
    let asked = &mut history.operations;
    asked.push(join(6_100, Answer::Entry(waiting.clone())));
    asked.push(ask(6_500, Request::GetEntry(1), Answer::Entry(waiting)));
    asked.push(ask(
        4_005_500,
        Request::GetEntry(1),
        Answer::Entry(entry.clone()),
    ));
    asked.push(ask(
        4_005_700,
        Request::Leave(1),
        refused("waitlist_entry_offered"),
    ));
    asked.push(ask(
        4_006_000,
        Request::Cancel(20),
        Answer::Hold(offered.clone()),
    ));
    tell(history, "ReservationCreated", &offered, 4_005_060);
    tell(history, "WaitlistOffered", &offered, 4_005_060);
    tell(history, "ReservationCanceled", &offered, 4_006_050);
    history.stored.holds.push(offered);
    history.stored.entries.push(entry);
}

fn join(began: Micros, answer: Answer) -> Operation {
    let request = Request::Join {
        product: 1,
        user: 7,
        quantity: 1,
        reference: "7-1".to_owned(),
    };
    ask(began, request, answer)
}

#[track_caller]
fn caught_in_line(promise: Promise, plant: impl FnOnce(&mut History)) {
    caught(promise, |history| {
        wait(history);
        plant(history);
    });
}

/// Another entry, whose join had no answer.
fn another(history: &mut History, user: i64, status: EntryStatus, ended: Option<Micros>) {
    let reference = format!("{user}-1");
    let request = Request::Join {
        product: 1,
        user,
        quantity: 1,
        reference: reference.clone(),
    };
    history
        .operations
        .push(ask(6_200, request, Answer::Unknown(String::new())));
    history.stored.entries.push(Entry {
        id: history.stored.entries.len() as i64 + 1,
        product: 1,
        user,
        quantity: 1,
        status,
        reference: Some(reference),
        hold: None,
        created: 6_250,
        ended,
    });
}

#[test]
fn a_line_passes() {
    allowed(wait);
    // A refusal of others is true while somebody waits, also with free units.
    allowed(|history| {
        wait(history);
        history
            .operations
            .push(reserve(4_005_010, 4, refused("sold_out")));
    });
    // Who leaves ends the own entry only.
    allowed(|history| {
        wait(history);
        another(history, 8, EntryStatus::Left, Some(6_450));
        let left = Answer::Unknown(String::new());
        history.operations.push(ask(6_400, Request::Leave(2), left));
    });
}

#[test]
fn a_unit_that_went_past_those_who_wait() {
    caught_in_line(Promise::StrictLine, |history| {
        sell(history, 9, 9, 3_000_000);
    });
    // Out of turn: the second was offered its hold while the first waited.
    caught_in_line(Promise::StrictLine, |history| {
        another(history, 8, EntryStatus::Waiting, None);
        history.stored.entries.swap(0, 1);
        let [first, second] = &mut history.stored.entries[..] else {
            unreachable!()
        };
        (first.id, second.id) = (1, 2);
        (first.created, second.created) = (6_100, 6_150);
    });
    // A unit is free at the end.
    caught_in_line(Promise::StrictLine, |history| {
        another(history, 8, EntryStatus::Waiting, None);
        history.stored.products[0].waiting = 1;
    });
}

#[test]
fn an_offer_that_is_none_or_two() {
    caught_in_line(Promise::StrictLine, |history| {
        history.stored.holds.retain(|hold| hold.id != 20);
    });
    caught_in_line(Promise::StrictLine, |history| {
        another(history, 8, EntryStatus::Offered, Some(4_005_060));
        history.stored.entries[1].hold = Some(20);
    });
    caught_in_line(Promise::StrictLine, |history| {
        history.stored.entries[0].ended = Some(4_005_900);
    });
    caught_in_line(Promise::NoLostEvent, |history| {
        let is_offer = |id: &str| id.starts_with("WaitlistOffered");
        history
            .deliveries
            .retain(|delivery| !is_offer(&delivery.event));
    });
    // The user had the room.
    caught_in_line(Promise::StrictLine, |history| {
        another(history, 8, EntryStatus::Closed, Some(6_450));
    });
}

#[test]
fn what_nobody_asked_for() {
    caught_in_line(Promise::NothingUnasked, |history| {
        another(history, 8, EntryStatus::Left, Some(6_450));
    });
    caught_in_line(Promise::NothingUnasked, |history| {
        another(history, 8, EntryStatus::Waiting, None);
        history.operations.pop();
    });
    // Joined twice at the same time.
    caught_in_line(Promise::StrictLine, |history| {
        another(history, 7, EntryStatus::Waiting, None);
    });
    caught_in_line(Promise::OnceUnderAKey, |history| {
        another(history, 8, EntryStatus::Waiting, None);
        let joined = history.operations.last_mut().expect("a join");
        joined.key = Some("8-1".to_owned());
        let again = history.stored.entries[1].clone();
        history.stored.entries.push(Entry { id: 3, ..again });
    });
}

#[test]
fn an_answer_that_is_not_true() {
    caught_in_line(Promise::TrueAnswer, |history| {
        history.stored.entries.clear();
    });
    caught_in_line(Promise::TrueAnswer, |history| {
        let another_end = Entry {
            status: EntryStatus::Left,
            hold: None,
            ..history.stored.entries[0].clone()
        };
        let seen = Answer::Entry(another_end);
        history
            .operations
            .push(ask(4_007_000, Request::GetEntry(1), seen));
    });
    let waits = |entry| Answer::Refused {
        code: "already_waiting".to_owned(),
        standing: Some(entry),
        product: None,
    };
    allowed(|history| {
        wait(history);
        history.operations.insert(0, join(6_300, waits(1)));
    });
    // The entry had ended.
    caught_in_line(Promise::TrueAnswer, |history| {
        history.operations.insert(0, join(4_005_200, waits(1)));
    });
    caught_in_line(Promise::TrueAnswer, |history| {
        history.operations.push(ask(
            6_400,
            Request::Leave(1),
            refused("waitlist_entry_closed"),
        ));
    });
    caught_in_line(Promise::Conservation, |history| {
        history.stored.products[0].waiting = 1;
    });
}
