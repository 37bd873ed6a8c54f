//! The invariants, and events that must occur in at least one state.
//!
//! None of them is an `eventually`: runs in which processes crash again and again never end, and stateright's
//! `eventually` does not check cycles. Instead, take every state in which all processes are idle; from any state,
//! crashes lead to such a state. From there, one expirer and one relay that run without a crash must complete
//! everything that is left.

use stateright::{Model as _, Property};

use crate::{
    protocol::{Action, Step},
    relay::{self, Relay},
    tables::{Hold, Status},
    waitlist::{Entry, EntryStatus},
    world::{Process, Protocol, State, Twin},
};

pub(crate) const NO_OVERSELL: &str = "no more units are held and sold than exist";
pub(crate) const CONSERVATION: &str = "the counters match the holds";
pub(crate) const ONE_END: &str = "a hold ends at most once";
pub(crate) const RETURNED_ONCE: &str =
    "a unit is freed at most once, and never from a sale that was not returned";
pub(crate) const DEADLINE: &str = "nothing is sold after its deadline";
pub(crate) const EXTENDED: &str = "a deadline is moved before it has passed, and not too far";
pub(crate) const NOT_EARLY: &str = "nothing expires before its deadline";
pub(crate) const REACQUIRED_ONCE: &str = "only an expired hold is reacquired, and only once";
pub(crate) const FAIR_SHARE: &str = "no user has more units than the limit";
pub(crate) const ONE_HOLD: &str = "a user has at most one ACTIVE hold";
pub(crate) const NO_UNDERSELL: &str = "no request is refused as sold out while a unit is free";
pub(crate) const TRUE_EVENTS: &str = "only a committed sale has an event";
pub(crate) const TRUE_ANSWERS: &str = "a hold that was answered as CONFIRMED is CONFIRMED";
pub(crate) const EVENT_DELIVERED: &str = "each sale's event is eventually delivered";
pub(crate) const MARKED_WHEN_DELIVERED: &str =
    "an event that is marked was delivered since it was last ready";
pub(crate) const LINE_SERVED: &str = "no unit is free that the first in line could have";
pub(crate) const LINE_IN_ORDER: &str = "nobody in line is served before the first";
pub(crate) const NOBODY_OVERTAKES: &str = "no other user is served while somebody waits";
pub(crate) const UNIT_FREE: &str = "each due hold's unit is eventually free";

pub(crate) const ALL_SOLD: &str = "all units are sold";
pub(crate) const RECLAIMED: &str = "an expired hold's unit is sold to another user";
pub(crate) const DELIVERED_TWICE: &str = "an event is delivered twice";
pub(crate) const MARKED_LATE: &str = "a confirm is recorded in a later transaction";
pub(crate) const TAKEN_OVER: &str =
    "another relay publishes an event whose first relay still waits";
pub(crate) const DELIVERED_AGAIN: &str = "a replayed event is delivered and marked";
pub(crate) const ANSWER_LOST: &str = "the answer to a sale is lost";
pub(crate) const SOLD_AFTER_EXTENSION: &str = "an extended hold is sold after its first deadline";
pub(crate) const EXTENDED_AND_LOST: &str = "a hold expires after its second deadline";
pub(crate) const REACQUIRED: &str = "an expired hold is reacquired";
pub(crate) const SOLD_AGAIN: &str = "a returned unit is sold to another user";
pub(crate) const OFFERED_TO_NEXT: &str = "an offered hold expires, and the next in line is served";
pub(crate) const OFFERED_AND_SOLD: &str = "an offered hold is sold";
pub(crate) const ADJUSTED: &str = "all units are sold after units were removed";

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(NO_OVERSELL, no_oversell),
        Property::always(CONSERVATION, conservation),
        Property::always(ONE_END, |_, state: &State| {
            state.tables.holds.iter().all(|hold| hold.ends <= 1)
        }),
        Property::always(RETURNED_ONCE, |_, state: &State| {
            let mut holds = state.tables.holds.iter();
            holds.all(|hold| hold.returned <= u8::from(hold.status != Status::Confirmed))
        }),
        Property::always(DEADLINE, |_, state: &State| {
            !state.tables.holds.iter().any(|hold| hold.sold_late)
        }),
        Property::always(EXTENDED, |_, state: &State| {
            let mut holds = state.tables.holds.iter();
            holds.all(|hold| {
                !hold.moved_late && (hold.moved_from.is_none() || hold.expires_at <= hold.longest())
            })
        }),
        Property::always(NOT_EARLY, |_, state: &State| {
            !state.tables.holds.iter().any(|hold| hold.expired_early)
        }),
        Property::always(REACQUIRED_ONCE, |_, state: &State| {
            let tables = &state.tables;
            let mut holds = tables.holds.iter().zip(0..);
            holds.all(|(hold, id)| {
                let lost = match hold.status {
                    Status::Expired => true,
                    // Not swept yet.
                    Status::Active => hold.expires_at <= state.clock,
                    _ => false,
                };
                tables.again(id).count() <= usize::from(lost)
            })
        }),
        Property::always(FAIR_SHARE, fair_share),
        Property::always(ONE_HOLD, one_hold),
        Property::always(NO_UNDERSELL, |_, state: &State| {
            !state.told_sold_out_wrongly
        }),
        Property::always(TRUE_EVENTS, |_, state: &State| {
            let delivered = state.delivered.iter().zip(0..);
            delivered
                .filter(|(times, _)| **times > 0)
                .all(|(_, id)| was_sold(state, id))
        }),
        Property::always(TRUE_ANSWERS, |_, state: &State| {
            let told = state.told_confirmed.iter().zip(0..);
            told.filter(|(told, _)| **told)
                .all(|(_, id)| was_sold(state, id))
        }),
        Property::always(EVENT_DELIVERED, |model: &Protocol, state: &State| {
            model.relays == 0
                || made_good(model, state).is_none_or(|end| {
                    let sold = (0..end.tables.holds.len()).filter(|id| was_sold(&end, *id));
                    sold.into_iter().all(|id| end.delivered[id] > 0)
                        && end.tables.outbox.iter().all(|event| !event.is_owed)
                })
        }),
        Property::always(MARKED_WHEN_DELIVERED, |_, state: &State| {
            let mut events = state.tables.outbox.iter();
            events.all(|event| !(event.published && event.is_owed))
        }),
        Property::always(LINE_SERVED, |_, state: &State| {
            let first = state.tables.waiting().next();
            first.is_none_or(|entry| entry.units > state.tables.stock)
        }),
        Property::always(LINE_IN_ORDER, |_, state: &State| {
            let line = &state.tables.line;
            let first = line
                .iter()
                .position(|entry| entry.status == EntryStatus::Waiting);
            let behind = first.map_or(&[][..], |first| &line[first..]);
            behind.iter().all(|entry| offered(state, entry).is_none())
        }),
        Property::always(NOBODY_OVERTAKES, |_, state: &State| {
            !state.tables.holds.iter().any(|hold| hold.overtook)
        }),
        Property::always(UNIT_FREE, |model: &Protocol, state: &State| {
            made_good(model, state).is_none_or(|end| end.tables.due(end.clock).is_empty())
        }),
        // A model in which nothing happens satisfies all of the above.
        Property::sometimes(ALL_SOLD, |model: &Protocol, state: &State| {
            state.tables.sold == model.units
        }),
        Property::sometimes(SOLD_AFTER_EXTENSION, |_, state: &State| {
            let mut holds = state.tables.holds.iter();
            holds.any(|hold| hold.status == Status::Confirmed && hold.moved_from.is_some())
        }),
        Property::sometimes(EXTENDED_AND_LOST, |_, state: &State| {
            let mut holds = state.tables.holds.iter();
            holds.any(|hold| hold.status == Status::Expired && hold.moved_from.is_some())
        }),
        Property::sometimes(REACQUIRED, |_, state: &State| {
            let mut holds = state.tables.holds.iter();
            holds.any(|hold| hold.reacquired_from.is_some())
        }),
        Property::sometimes(SOLD_AGAIN, |model: &Protocol, state: &State| {
            let mut holds = state.tables.holds.iter();
            let returned = holds.find(|hold| hold.status == Status::Returned);
            returned.is_some_and(|old| {
                let mut others = state.tables.holds.iter().filter(|new| new.user != old.user);
                state.tables.sold == model.units
                    && others.any(|new| new.status == Status::Confirmed)
            })
        }),
        Property::sometimes(ADJUSTED, |model: &Protocol, state: &State| {
            state.tables.sold == state.tables.total && state.tables.total < model.units
        }),
        Property::sometimes(OFFERED_TO_NEXT, |_, state: &State| {
            let mut line = state
                .tables
                .line
                .iter()
                .filter_map(|entry| offered(state, entry));
            line.any(|hold| hold.status == Status::Expired) && line.next().is_some()
        }),
        Property::sometimes(OFFERED_AND_SOLD, |_, state: &State| {
            let mut line = state
                .tables
                .line
                .iter()
                .filter_map(|entry| offered(state, entry));
            line.any(|hold| hold.status == Status::Confirmed)
        }),
        Property::sometimes(RECLAIMED, |_, state: &State| {
            let holds = &state.tables.holds;
            holds.iter().any(|old| {
                let mut others = holds.iter().filter(|new| new.user != old.user);
                old.status == Status::Expired && others.any(|new| new.status == Status::Confirmed)
            })
        }),
        Property::sometimes(MARKED_LATE, |_, state: &State| state.marked_late),
        Property::sometimes(TAKEN_OVER, |_, state: &State| {
            let events = &state.tables.outbox;
            state.relays.iter().any(|relay| match relay {
                Relay::Waiting { leased, .. } => {
                    let mut events = events.iter().zip(0..);
                    events.any(|(event, row)| event.published && leased & (1 << row) != 0)
                }
                _ => false,
            })
        }),
        Property::sometimes(DELIVERED_AGAIN, |_, state: &State| {
            let mut events = state.tables.outbox.iter();
            state.replays > 0 && events.all(|event| event.published && !event.is_owed)
        }),
        Property::sometimes(DELIVERED_TWICE, |_, state: &State| {
            state.delivered.contains(&2)
        }),
        Property::sometimes(ANSWER_LOST, |_, state: &State| {
            at_rest(state) && state.tables.sold > 0 && !state.told_confirmed.contains(&true)
        }),
    ]
}

/// The hold that an entry was offered.
fn offered<'a>(state: &'a State, entry: &Entry) -> Option<&'a Hold> {
    match entry.status {
        EntryStatus::Offered(id) => state.tables.holds.get(usize::from(id)),
        EntryStatus::Waiting | EntryStatus::Ended => None,
    }
}

/// A return does not undo that the hold was sold.
fn was_sold(state: &State, id: usize) -> bool {
    let hold = state.tables.holds.get(id);
    hold.is_some_and(|hold| matches!(hold.status, Status::Confirmed | Status::Returned))
}

fn units(state: &State, status: Status) -> i8 {
    let holds = state.tables.holds.iter();
    let units = holds
        .filter(|hold| hold.status == status)
        .map(|hold| hold.units);
    units.sum()
}

fn no_oversell(_: &Protocol, state: &State) -> bool {
    let taken = units(state, Status::Active) + units(state, Status::Confirmed);
    state.tables.stock >= 0 && taken <= state.tables.total
}

fn conservation(_: &Protocol, state: &State) -> bool {
    let tables = &state.tables;
    tables.stock + tables.held + tables.sold == tables.total
        && tables.held == units(state, Status::Active)
        && tables.sold == units(state, Status::Confirmed)
}

/// A hold counts until its deadline.
fn fair_share(model: &Protocol, state: &State) -> bool {
    (0..model.users).all(|user| {
        let holds = state.tables.holds.iter().filter(|hold| {
            let live = hold.status == Status::Active && hold.expires_at > state.clock;
            hold.user == user && (live || hold.status == Status::Confirmed)
        });
        holds.map(|hold| hold.units).sum::<i8>() <= model.max_per_user
    })
}

fn one_hold(model: &Protocol, state: &State) -> bool {
    (0..model.users).all(|user| {
        let holds = state.tables.holds.iter();
        let active = holds.filter(|hold| hold.user == user && hold.status == Status::Active);
        active.count() <= 1
    })
}

fn at_rest(state: &State) -> bool {
    let processes = state.connections.iter().chain(&state.expirers);
    processes
        .into_iter()
        .all(|process| *process == Process::Idle)
        && state.relays.iter().all(|relay| *relay == Relay::Idle)
}

/// An idle state after the last deadline and the end of all leases, one undisturbed sweep and one undisturbed relay.
fn made_good(model: &Protocol, state: &State) -> Option<State> {
    if !at_rest(state) {
        return None;
    }
    let mut end = state.clone();
    end.clock = u8::MAX / 2;
    // No other process acts, and the idle processes sort first.
    let worker = model.expirers - 1;
    if let Some(looked) = model.next_state(&end, Action::Look(worker)) {
        end = looked;
        while end.expirers[worker] != Process::Idle {
            end = model.next_state(&end, Action::OfExpirer(worker, Step::GoOn))?;
        }
    }
    let Some(worker) = model.relays.checked_sub(1) else {
        return Some(end);
    };
    if model.twin != Some(Twin::LeaseWithoutEnd) {
        for event in &mut end.tables.outbox {
            event.is_leased = false;
        }
    }
    loop {
        // The first step is the one without a fault.
        let mut steps = end.relays[worker].steps(&end, 0);
        steps.retain(|step| !matches!(step, relay::Step::Freeze | relay::Step::Die));
        let Some(step) = steps.first() else {
            return Some(end);
        };
        end = model.next_state(&end, Action::OfRelay(worker, *step))?;
    }
}
