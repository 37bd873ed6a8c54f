//! The lives of the holds, and how many units were taken when.

use std::collections::{BTreeMap, HashMap};

use crate::chaos::history::{Answer, History, Hold, Micros, Status};

pub(super) struct Lives<'a> {
    lives: HashMap<i64, Life<'a>>,
    occupancy: HashMap<i64, Occupancy>,
}

/// One hold.
pub(super) struct Life<'a> {
    pub(super) hold: &'a Hold,
    /// When the last move of its deadline was over, if there was one.
    pub(super) moved: Option<Micros>,
    /// The first moment at which a client knew that it had ended.
    known_ended: Option<Micros>,
}

impl<'a> Lives<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut moved: HashMap<i64, Micros> = HashMap::new();
        for act in &history.moves {
            for id in &act.holds {
                let last = moved.entry(*id).or_insert(act.ended);
                *last = act.ended.max(*last);
            }
        }
        let mut known_ended: HashMap<i64, Micros> = HashMap::new();
        for operation in &history.operations {
            let mut known = |id: i64| {
                let first = known_ended.entry(id).or_insert(operation.ended);
                *first = operation.ended.min(*first);
            };
            let seen = match &operation.answer {
                Answer::Hold(hold) => std::slice::from_ref(hold),
                Answer::Holds(holds) => holds,
                // Each refusal of a confirm or cancel says that the hold has ended.
                Answer::Refused { .. } => {
                    operation.request.hold().into_iter().for_each(known);
                    continue;
                }
                _ => continue,
            };
            for hold in seen.iter().filter(|hold| hold.status != Status::Active) {
                known(hold.id);
            }
        }
        let mut acts: HashMap<i64, Vec<Micros>> = HashMap::new();
        for hold in &history.stored.holds {
            let times = acts.entry(hold.product).or_default();
            times.push(hold.created);
            times.extend(hold.ended.filter(|_| hold.status != Status::Expired));
        }
        acts.values_mut().for_each(|times| times.sort_unstable());
        // An act has committed when the next one on the same product has its lock.
        let committed = |hold: &Hold| {
            let (times, at) = (acts.get(&hold.product)?, hold.ended?);
            times
                .get(times.partition_point(|time| *time <= at))
                .copied()
        };
        let lives: HashMap<i64, Life> = history
            .stored
            .holds
            .iter()
            .map(|hold| {
                let known = known_ended.get(&hold.id).copied();
                let life = Life {
                    hold,
                    moved: moved.get(&hold.id).copied(),
                    known_ended: known.into_iter().chain(committed(hold)).min(),
                };
                (hold.id, life)
            })
            .collect();
        let mut occupancy: HashMap<i64, Occupancy> = HashMap::new();
        for life in lives.values() {
            occupancy.entry(life.hold.product).or_default().add(life);
        }
        occupancy.values_mut().for_each(Occupancy::count);
        Self { lives, occupancy }
    }

    pub(super) fn get(&self, id: i64) -> Option<&Life<'a>> {
        self.lives.get(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Life<'a>> {
        self.lives.values()
    }

    /// The most units of a product that a request of this span may have found taken.
    pub(super) fn most_taken(&self, product: i64, from: Micros, to: Micros) -> i64 {
        self.occupancy
            .get(&product)
            .map_or(0, |occupancy| occupancy.most(from, to))
    }
}

impl Life<'_> {
    /// The last moment at which anybody may have found it ACTIVE. A confirm or cancel takes its time before
    /// it commits, and who reads without a lock sees the hold ACTIVE until then; a deadline needs no commit.
    pub(super) fn active_until(&self) -> Micros {
        match self.hold.status {
            Status::Confirmed | Status::Canceled => self.known_ended.unwrap_or(Micros::MAX),
            Status::Active | Status::Expired => {
                self.hold.expires.max(self.moved.unwrap_or(Micros::MIN))
            }
        }
    }
}

/// The units of one product that were taken, at most.
#[derive(Default)]
struct Occupancy {
    changes: BTreeMap<Micros, Change>,
    /// The units taken after the changes of a moment.
    after: Vec<(Micros, i64)>,
}

#[derive(Default)]
struct Change {
    taken: i64,
    given_back: i64,
    /// By deadlines.
    expired: i64,
}

impl Occupancy {
    fn add(&mut self, life: &Life) {
        let (hold, until) = (life.hold, life.active_until());
        self.changes.entry(hold.created).or_default().taken += hold.quantity;
        let change = self.changes.entry(until).or_default();
        match hold.status {
            Status::Confirmed => {}
            Status::Canceled => change.given_back += hold.quantity,
            Status::Active | Status::Expired => change.expired += hold.quantity,
        }
    }

    fn count(&mut self) {
        let mut taken = 0;
        for (at, change) in &self.changes {
            taken += change.taken - change.given_back - change.expired;
            self.after.push((*at, taken));
        }
    }

    /// A request reads the clock first and looks then: to it, deadlines that pass meanwhile have not passed.
    fn most(&self, from: Micros, to: Micros) -> i64 {
        let first = self.after.partition_point(|(at, _)| *at < from);
        let before = first.checked_sub(1).map_or(0, |last| self.after[last].1);
        let (mut taken, mut most) = (before, before);
        for change in self.changes.range(from..=to).map(|(_, change)| change) {
            taken += change.taken;
            most = most.max(taken);
            taken -= change.given_back;
        }
        most
    }
}
