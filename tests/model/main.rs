//! The protocol, explored: every order of events that a small world has room for.
//!
//! The tests of the rules and of the whole service see the orders that happen to come up; here none is left out.
//! What is modelled is what the design relies on: the product's row as the mutex of its holds, the clock
//! read after the lock, compare-and-set on the status, counters changed by differences, the outbox row in
//! confirm's transaction, and the relay's claim, publish, confirm and mark. Each broken twin has one of these
//! taken away, and the property that it stands for has to notice.

mod properties;
mod protocol;
mod relay;
mod tables;
mod world;

use stateright::{Checker as _, HasDiscoveries, Model as _};

use crate::{
    properties::*,
    world::{Protocol, Twin},
};

/// Two users compete for one unit, three holds long: 561,407 states.
const ONE_UNIT: Protocol = Protocol {
    units: 1,
    users: 2,
    holds_max: 3,
    clock_max: 2,
    connections: 2,
    expirers: 2,
    relays: 1,
    twin: None,
};

/// Two relays share the events of two sales; nothing falls due: 338,607 states.
const TWO_EVENTS: Protocol = Protocol {
    units: 2,
    users: 2,
    holds_max: 2,
    clock_max: 0,
    connections: 1,
    expirers: 1,
    relays: 2,
    twin: None,
};

/// Goes through every state of a world. All that has to hold does, and only this happens `sometimes`.
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

/// A world in which one thing is done wrong comes to a state that breaks `property`.
fn caught(twin: Twin, property: &'static str) {
    caught_in(ONE_UNIT, twin, property);
}

fn caught_in(world: Protocol, twin: Twin, property: &'static str) {
    let world = Protocol {
        twin: Some(twin),
        ..world
    };
    let wanted = HasDiscoveries::AnyOf([property].into());
    // One thread searches in order of depth, so that the way there is a shortest.
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
    // One holds a unit that falls due, one takes the other unit, and one peeks.
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
}
