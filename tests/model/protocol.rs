//! The protocol as a state machine: the possible next steps of each process.
//!
//! | process | its steps |
//! |---|---|
//! | a connection of the API | lock the product → read the clock → write → commit → answer |
//! | an expirer | the same when a hold is due, without an answer |
//! | a relay | claim unclaimed rows → publish → await the confirms → mark, commit; or commit with a lease → mark later |
//!
//! Between two steps of one process, any other process may act, the clock may tick, and the process may crash. A
//! client that repeats a call, gives up on it, or gets no answer is modelled as a call that starts on a connection at
//! any time: no call depends on the client's knowledge.

use stateright::{Model, Property};

use crate::{
    properties,
    relay::{self, Relay},
    tables::{Answer, Event, Tables, Work},
    world::{Kind, Process, Protocol, Seen, State, Twin, Verb},
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    Tick,
    Begin(usize, Verb),
    Look(usize),
    OfConnection(usize, Step),
    OfExpirer(usize, Step),
    OfRelay(usize, relay::Step),
    /// The lease of this event ends.
    EndLease(usize),
    /// An operator makes this event ready to publish again.
    Replay(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// The next step of a process, if it is possible.
    GoOn,
    Die,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            clock: 0,
            tables: Tables::new(self.units),
            connections: vec![Process::Idle; self.connections],
            expirers: vec![Process::Idle; self.expirers],
            relays: vec![Relay::Idle; self.relays],
            delivered: vec![0; self.holds_max.into()],
            told_confirmed: vec![false; self.holds_max.into()],
            told_sold_out_wrongly: false,
            leases: 0,
            replays: 0,
            marked_late: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.clock < self.clock_max {
            actions.push(Action::Tick);
        }
        for (n, process) in state.connections.iter().enumerate() {
            if *process == Process::Idle {
                let calls = self.calls(state).into_iter();
                actions.extend(calls.map(|verb| Action::Begin(n, verb)));
            } else {
                actions.push(Action::OfConnection(n, Step::GoOn));
                actions.push(Action::OfConnection(n, Step::Die));
            }
        }
        for (n, process) in state.expirers.iter().enumerate() {
            if *process == Process::Idle {
                actions.push(Action::Look(n));
            } else {
                actions.push(Action::OfExpirer(n, Step::GoOn));
                actions.push(Action::OfExpirer(n, Step::Die));
            }
        }
        for (n, relay) in state.relays.iter().enumerate() {
            let steps = relay.steps(state, self.leases_max);
            actions.extend(steps.into_iter().map(|step| Action::OfRelay(n, step)));
        }
        for (n, event) in state.tables.outbox.iter().enumerate() {
            if event.is_leased && self.twin != Some(Twin::LeaseWithoutEnd) {
                actions.push(Action::EndLease(n));
            }
            if event.published && state.replays < self.replays_max {
                actions.push(Action::Replay(n));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => state.clock += 1,
            Action::Begin(n, verb) => state.connections[n] = self.begin(last, verb)?,
            Action::Look(n) => {
                if last.tables.due(last.clock).is_empty() {
                    return None;
                }
                state.expirers[n] = self.begin(last, Verb::Expire)?;
            }
            Action::OfConnection(n, Step::Die) => state.connections[n] = Process::Idle,
            Action::OfExpirer(n, Step::Die) => state.expirers[n] = Process::Idle,
            Action::OfConnection(n, Step::GoOn) => {
                state.connections[n] = self.go_on(&last.connections[n], &mut state)?;
            }
            Action::OfExpirer(n, Step::GoOn) => {
                state.expirers[n] = self.go_on(&last.expirers[n], &mut state)?;
            }
            Action::OfRelay(n, step) => {
                state.relays[n] = last.relays[n].next(step, &mut state, self.twin)?;
            }
            Action::EndLease(n) => state.tables.outbox[n].is_leased = false,
            Action::Replay(n) => {
                let event = &mut state.tables.outbox[n];
                *event = Event::of(event.hold);
                state.replays += 1;
            }
        }
        for process in &mut state.connections {
            if let Process::Peeking { sold_out, .. } = process {
                *sold_out |= state.tables.is_sold_out(state.clock);
            }
        }
        state.connections.sort();
        state.expirers.sort();
        state.relays.sort();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl Protocol {
    /// Every call that a client could send now.
    fn calls(&self, state: &State) -> Vec<Verb> {
        let existing = state.tables.holds.len() as u8;
        // A call in progress may also need a new row.
        let waiting = state.connections.iter().filter(|other| other.needs_room());
        // An entry of the waitlist may get a hold at any time.
        let entries = state.tables.waiting().count();
        let room = existing + ((waiting.count() + entries) as u8) < self.holds_max;
        let mut calls = Vec::new();
        for kind in self.kinds {
            match kind {
                Kind::Reserve if room => calls.extend((0..self.users).map(Verb::Reserve)),
                Kind::Reacquire if room => calls.extend((0..existing).map(Verb::Reacquire)),
                Kind::Reserve | Kind::Reacquire => {}
                Kind::Confirm => calls.extend((0..existing).map(Verb::Confirm)),
                Kind::Cancel => calls.extend((0..existing).map(Verb::Cancel)),
                Kind::Extend => calls.extend((0..existing).map(Verb::Extend)),
                Kind::Return => calls.extend((0..existing).map(Verb::Return)),
                // The total changes by at most one unit in each direction.
                Kind::Adjust if state.tables.total == self.units => {
                    calls.extend([Verb::Adjust(-1), Verb::Adjust(1)]);
                }
                Kind::Adjust => {}
                Kind::Join if room && state.tables.line.len() < self.holds_max.into() => {
                    calls.extend((0..self.users).map(Verb::Join));
                }
                Kind::Join => {}
                Kind::Leave => {
                    let users = state.tables.waiting().map(|entry| entry.user);
                    calls.extend(users.map(Verb::Leave));
                }
            }
        }
        calls
    }

    /// A call that waits for the lock has done nothing and has read nothing. So it begins when it gets the lock. Only
    /// a broken twin, which has read something before the wait, is modelled as waiting.
    fn begin(&self, state: &State, verb: Verb) -> Option<Process> {
        let takes_along = match self.twin {
            Some(Twin::ClockBeforeLock | Twin::SnapshotBeforeLock) => verb != Verb::Expire,
            Some(Twin::ReclaimWithoutCompare) => verb == Verb::Expire,
            Some(Twin::ReacquireBeforeLock) => matches!(verb, Verb::Reacquire(_)),
            Some(Twin::ReturnWithoutCompare) => matches!(verb, Verb::Return(_)),
            _ => false,
        };
        if let (Some(Twin::PeekWithEarlierClock), Verb::Reserve(user)) = (self.twin, verb) {
            return Some(Process::Peeking {
                user,
                clock: state.clock,
                sold_out: false,
            });
        }
        if takes_along {
            let (clock, tables) = (state.clock, state.tables.clone());
            return Some(Process::Waiting(verb, Seen { clock, tables }));
        }
        locked(state, verb, None)
    }

    /// The next step of a process, with its effect on the others. `None` if it must wait.
    fn go_on(&self, process: &Process, state: &mut State) -> Option<Process> {
        Some(match process.clone() {
            Process::Idle => return None,
            Process::Waiting(verb, seen) => locked(state, verb, Some(seen))?,
            Process::Peeking {
                user,
                clock,
                sold_out,
            } => {
                if !state.tables.is_sold_out(clock) {
                    return locked(state, Verb::Reserve(user), None);
                }
                if !sold_out && !state.tables.has_hold(user) {
                    state.tell(Answer::WronglySoldOut);
                }
                Process::Idle
            }
            Process::Locked {
                verb,
                locked_at,
                seen,
            } => {
                let early = seen
                    .as_ref()
                    .filter(|_| self.twin == Some(Twin::ClockBeforeLock));
                Process::Timed {
                    verb,
                    locked_at,
                    t: early.map_or(state.clock, |seen| seen.clock),
                    seen,
                }
            }
            Process::Timed {
                verb,
                locked_at,
                t,
                seen,
            } => {
                let work = self.write(&state.tables, verb, t, seen);
                if self.twin == Some(Twin::PublishBeforeCommit)
                    && let Some(id) = work.sells()
                {
                    state.deliver(id);
                }
                if self.twin == Some(Twin::AnswerBeforeCommit) {
                    state.tell(work.answer);
                }
                Process::Written { locked_at, work }
            }
            Process::Written { locked_at, work } => {
                state.tables.commit(&work, locked_at, state.clock, self);
                match (work.sells(), work.answer) {
                    (Some(id), _) if self.twin == Some(Twin::EventAfterCommit) => {
                        Process::OwesEvent(id)
                    }
                    (_, answer @ Answer::Confirmed(_)) => Process::Answering(answer),
                    // Nothing depends on whether and when these answers arrive.
                    (_, answer) => {
                        state.tell(answer);
                        Process::Idle
                    }
                }
            }
            Process::OwesEvent(id) => {
                state.tables.write_event(id);
                Process::Answering(Answer::Confirmed(id))
            }
            Process::Answering(answer) => {
                state.tell(answer);
                Process::Idle
            }
        })
    }

    fn write(&self, tables: &Tables, verb: Verb, t: u8, seen: Option<Seen>) -> Work {
        match (self.twin, seen) {
            (
                Some(
                    Twin::SnapshotBeforeLock
                    | Twin::ReacquireBeforeLock
                    | Twin::ReturnWithoutCompare,
                ),
                Some(seen),
            ) => seen.tables.work(verb, t, self),
            (Some(Twin::ReclaimWithoutCompare), Some(seen)) => {
                tables.expire(seen.tables.due(seen.clock))
            }
            _ => tables.work(verb, t, self),
        }
    }
}

/// Takes the product's lock, if it is free.
fn locked(state: &State, verb: Verb, seen: Option<Seen>) -> Option<Process> {
    let locked_at = state.clock;
    (!state.is_locked()).then_some(Process::Locked {
        verb,
        locked_at,
        seen,
    })
}
