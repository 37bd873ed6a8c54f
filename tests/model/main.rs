//! Model checking of the protocol: every order of events in a small world.
//!
//! The tests of the rules and of the whole service see only the orders that happen by chance. The model contains what
//! the design relies on: the product's row as the mutex of its holds, the clock read after the lock, compare-and-set
//! on the status, relative updates of counters, the outbox row in confirm's transaction, the relay's claim, publish,
//! confirm and mark, its leases, and the waitlist that is served in the transaction that frees units. Each broken twin
//! lacks one of these, and must violate the property that depends on it.

#![allow(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "the rules for the service's own code: the model is not the service"
)]

mod properties;
mod protocol;
mod relay;
mod tables;
mod waitlist;
mod world;

use stateright::{Checker as _, HasDiscoveries, Model as _};

use crate::{
    properties::*,
    world::{Kind, Protocol, Twin},
};

/// Two users compete for one unit, with up to three holds: 533,411 states.
const ONE_UNIT: Protocol = Protocol {
    units: 1,
    users: 2,
    wants: &[1, 1, 1],
    max_per_user: 9,
    kinds: &[Kind::Reserve, Kind::Confirm, Kind::Cancel],
    holds_max: 3,
    clock_max: 2,
    connections: 2,
    expirers: 2,
    relays: 1,
    leases_max: 0,
    replays_max: 0,
    twin: None,
};

/// Two relays share the events of two sales. No hold falls due: 337,971 states.
const TWO_EVENTS: Protocol = Protocol {
    units: 2,
    holds_max: 2,
    clock_max: 0,
    connections: 1,
    expirers: 1,
    relays: 2,
    ..ONE_UNIT
};

/// Two relays share the event of one sale with leases, and the event is replayed: 17,428 states.
const LEASES: Protocol = Protocol {
    users: 1,
    kinds: &[Kind::Reserve, Kind::Confirm],
    holds_max: 1,
    clock_max: 0,
    connections: 1,
    expirers: 1,
    relays: 2,
    leases_max: 3,
    replays_max: 1,
    ..ONE_UNIT
};

/// One relay records a part of a batch, and the rest late. No replay: 164,551 states.
const LEASES_OF_TWO: Protocol = Protocol {
    units: 2,
    holds_max: 2,
    relays: 1,
    leases_max: 2,
    replays_max: 0,
    ..LEASES
};

/// Deadlines are extended while holds fall due and are sold: 31,186 states.
const MORE_TIME: Protocol = Protocol {
    kinds: &[Kind::Reserve, Kind::Confirm, Kind::Extend],
    clock_max: 3,
    relays: 0,
    ..ONE_UNIT
};

/// Late payments, returns, and a limit of one unit per user: 319,994 states.
const LATE: Protocol = Protocol {
    units: 2,
    max_per_user: 1,
    kinds: &[Kind::Reserve, Kind::Confirm, Kind::Reacquire, Kind::Return],
    clock_max: 1,
    expirers: 1,
    relays: 0,
    ..ONE_UNIT
};

/// The same with a relay, one user, and one call at a time: 92,285 states.
const LATE_EVENTS: Protocol = Protocol {
    users: 1,
    units: 1,
    holds_max: 2,
    connections: 1,
    relays: 1,
    ..LATE
};

/// One user wants both units, while units are added and removed: 588,335 states.
const STOCKTAKING: Protocol = Protocol {
    units: 2,
    wants: &[1, 2],
    kinds: &[Kind::Reserve, Kind::Confirm, Kind::Return, Kind::Adjust],
    clock_max: 1,
    expirers: 1,
    relays: 0,
    ..ONE_UNIT
};

/// Users wait for one unit, which others give back, lose and buy: 336,455 states.
const LINE: Protocol = Protocol {
    kinds: &[Kind::Reserve, Kind::Confirm, Kind::Cancel, Kind::Join],
    expirers: 1,
    relays: 0,
    ..ONE_UNIT
};

/// A user in line wants both units: 52,878 states.
const LINE_FOR_TWO: Protocol = Protocol {
    units: 2,
    wants: &[1, 2],
    kinds: &[Kind::Reserve, Kind::Confirm, Kind::Join, Kind::Leave],
    clock_max: 1,
    connections: 1,
    ..LINE
};

/// Explores all states of a world. All invariants must hold, and exactly these `sometimes` properties must occur.
fn explore(world: Protocol, sometimes: &[&str]) {
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert!(checker.is_done());
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    found.sort_by_key(|(property, _)| sometimes.iter().position(|name| name == property));
    let names: Vec<_> = found.iter().map(|(property, _)| *property).collect();
    assert_eq!(names, sometimes, "{found:#?}");
}

#[test]
fn one_unit_is_sold_once_whoever_competes_for_it_and_dies() {
    explore(
        ONE_UNIT,
        &[ALL_SOLD, RECLAIMED, DELIVERED_TWICE, ANSWER_LOST],
    );
}

#[test]
fn two_relays_lose_no_event() {
    explore(TWO_EVENTS, &[ALL_SOLD, DELIVERED_TWICE, ANSWER_LOST]);
}

#[test]
fn events_that_are_leased_and_replayed_are_not_lost() {
    let seen = [ALL_SOLD, MARKED_LATE, TAKEN_OVER, DELIVERED_AGAIN];
    explore(
        LEASES,
        &[&seen[..], &[DELIVERED_TWICE, ANSWER_LOST]].concat(),
    );
    explore(
        LEASES_OF_TWO,
        &[ALL_SOLD, MARKED_LATE, DELIVERED_TWICE, ANSWER_LOST],
    );
}

#[test]
fn more_time_is_given_to_the_living_only() {
    explore(
        MORE_TIME,
        &[
            ALL_SOLD,
            RECLAIMED,
            ANSWER_LOST,
            SOLD_AFTER_EXTENSION,
            EXTENDED_AND_LOST,
        ],
    );
}

#[test]
fn what_was_lost_or_returned_is_sold_once_more() {
    explore(
        LATE,
        &[ALL_SOLD, RECLAIMED, ANSWER_LOST, REACQUIRED, SOLD_AGAIN],
    );
}

#[test]
fn what_is_sold_late_or_returned_has_its_event() {
    explore(
        LATE_EVENTS,
        &[ALL_SOLD, DELIVERED_TWICE, ANSWER_LOST, REACQUIRED],
    );
}

#[test]
fn several_units_are_had_whole_while_the_stock_changes() {
    explore(
        STOCKTAKING,
        &[ALL_SOLD, RECLAIMED, ANSWER_LOST, SOLD_AGAIN, ADJUSTED],
    );
}

#[test]
fn units_that_come_free_go_to_those_who_wait() {
    let seen = [
        ALL_SOLD,
        RECLAIMED,
        ANSWER_LOST,
        OFFERED_TO_NEXT,
        OFFERED_AND_SOLD,
    ];
    explore(LINE, &seen);
    explore(LINE_FOR_TWO, &seen);
}

/// A world with this fault must reach a state that violates `property`.
fn caught(twin: Twin, property: &'static str) {
    caught_in(ONE_UNIT, twin, property);
}

fn caught_in(world: Protocol, twin: Twin, property: &'static str) {
    let world = Protocol {
        twin: Some(twin),
        ..world
    };
    let wanted = HasDiscoveries::AnyOf([property].into());
    // One thread searches breadth first, so the counterexample is a shortest one.
    let checker = world.checker().finish_when(wanted).spawn_bfs().join();
    let way = checker.assert_any_discovery(property);
    println!("{twin:?}: {:#?}", way.into_actions());
}

#[test]
fn a_confirm_that_does_not_check_the_deadline_sells_late() {
    caught(Twin::ConfirmWithoutDeadline, DEADLINE);
}

#[test]
fn a_clock_read_before_the_lock_sells_late() {
    caught(Twin::ClockBeforeLock, DEADLINE);
}

#[test]
fn a_snapshot_from_before_the_lock_oversells() {
    caught(Twin::SnapshotBeforeLock, NO_OVERSELL);
    caught(Twin::SnapshotBeforeLock, ONE_HOLD);
}

#[test]
fn a_reclaim_without_compare_and_set_returns_units_twice() {
    caught(Twin::ReclaimWithoutCompare, RETURNED_ONCE);
    caught(Twin::ReclaimWithoutCompare, ONE_END);
    caught(Twin::ReclaimWithoutCompare, CONSERVATION);
}

#[test]
fn a_reserve_that_does_not_reclaim_undersells() {
    caught(Twin::ReserveWithoutReclaim, NO_UNDERSELL);
}

#[test]
fn a_peek_with_a_clock_from_before_its_snapshot_undersells() {
    // One hold falls due, one user takes the other unit, and one checks for a sold-out product.
    let three_users = Protocol {
        units: 2,
        users: 3,
        clock_max: 1,
        ..ONE_UNIT
    };
    caught_in(three_users, Twin::PeekWithEarlierClock, NO_UNDERSELL);
}

#[test]
fn an_expirer_that_does_not_sweep_leaves_units_held() {
    caught(Twin::ExpireWithoutSweep, UNIT_FREE);
}

#[test]
fn an_extension_that_does_not_check_the_deadline_revives_the_dead() {
    caught_in(MORE_TIME, Twin::ExtendWithoutDeadline, EXTENDED);
    caught_in(MORE_TIME, Twin::ClockBeforeLock, EXTENDED);
}

#[test]
fn a_reclaim_without_compare_and_set_ends_what_was_extended() {
    caught_in(MORE_TIME, Twin::ReclaimWithoutCompare, NOT_EARLY);
}

#[test]
fn a_late_payment_that_looks_for_no_earlier_one_buys_twice() {
    // Two units, and a user who may have both.
    let generous = Protocol {
        max_per_user: 2,
        ..LATE
    };
    caught_in(generous, Twin::ReacquireWithoutLook, REACQUIRED_ONCE);
    caught_in(generous, Twin::ReacquireBeforeLock, REACQUIRED_ONCE);
}

#[test]
fn a_late_payment_that_looks_before_it_has_the_lock_takes_what_is_gone() {
    caught_in(LATE, Twin::ReacquireBeforeLock, NO_OVERSELL);
    caught_in(LATE, Twin::ReacquireBeforeLock, FAIR_SHARE);
    caught_in(LATE, Twin::ReacquireWithoutLimit, FAIR_SHARE);
}

#[test]
fn a_return_without_compare_and_set_frees_units_twice() {
    caught_in(LATE, Twin::ReturnWithoutCompare, RETURNED_ONCE);
    caught_in(LATE, Twin::ReturnWithoutCompare, CONSERVATION);
}

#[test]
fn an_adjustment_that_decides_before_it_has_the_lock_takes_what_is_held() {
    caught_in(STOCKTAKING, Twin::SnapshotBeforeLock, NO_OVERSELL);
}

#[test]
fn a_reserve_that_does_not_look_at_the_line_overtakes_it() {
    caught_in(LINE, Twin::ReserveBesideLine, NOBODY_OVERTAKES);
}

#[test]
fn an_offer_after_the_commit_leaves_a_unit_free_beside_the_line() {
    caught_in(LINE, Twin::OfferAfterCommit, LINE_SERVED);
}

#[test]
fn an_offer_to_whoever_fits_breaks_the_order_of_the_line() {
    caught_in(LINE_FOR_TWO, Twin::OfferToWhoFits, LINE_IN_ORDER);
}

#[test]
fn an_answer_before_the_commit_is_untrue() {
    caught(Twin::AnswerBeforeCommit, TRUE_ANSWERS);
}

#[test]
fn an_event_published_before_the_commit_tells_of_no_sale() {
    caught(Twin::PublishBeforeCommit, TRUE_EVENTS);
}

#[test]
fn an_event_written_after_the_commit_is_lost() {
    caught(Twin::EventAfterCommit, EVENT_DELIVERED);
}

#[test]
fn an_event_marked_before_the_brokers_confirm_is_lost() {
    caught(Twin::MarkBeforeConfirm, EVENT_DELIVERED);
    caught(Twin::MarkBeforeConfirm, MARKED_WHEN_DELIVERED);
}

#[test]
fn a_late_confirm_that_is_recorded_without_a_lease_loses_a_replay() {
    caught_in(LEASES, Twin::RecordWithoutLease, MARKED_WHEN_DELIVERED);
    caught_in(LEASES, Twin::RecordWithoutLease, EVENT_DELIVERED);
}

#[test]
fn a_lease_without_an_end_loses_the_events_of_a_dead_relay() {
    caught_in(LEASES, Twin::LeaseWithoutEnd, EVENT_DELIVERED);
}
