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
        let lives: HashMap<i64, Life> = history
            .stored
            .holds
            .iter()
            .map(|hold| {
                let life = Life {
                    hold,
                    moved: moved.get(&hold.id).copied(),
                    known_ended: known_ended.get(&hold.id).copied(),
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

    /// The most units of a product that may have been taken at one moment of a span.
    pub(super) fn most_taken(&self, product: i64, from: Micros, to: Micros) -> i64 {
        self.occupancy
            .get(&product)
            .map_or(0, |occupancy| occupancy.most(from, to))
    }
}

impl Life<'_> {
    /// The last moment at which a reader may have seen it ACTIVE. A confirm or cancel takes its time
    /// before it commits, so readers may see the hold ACTIVE until its end is known to anybody; the deadline
    /// needs no commit.
    pub(super) fn active_to_readers_until(&self) -> Micros {
        let deadline = self.hold.expires.max(self.moved.unwrap_or(Micros::MIN));
        match self.hold.status {
            Status::Confirmed | Status::Canceled => self.known_ended.unwrap_or(Micros::MAX),
            Status::Active | Status::Expired => deadline,
        }
    }

    /// The last moment at which a verb, under the product's lock, may have found it ACTIVE.
    pub(super) fn active_to_verbs_until(&self) -> Micros {
        match self.hold.status {
            Status::Confirmed | Status::Canceled => self.hold.ended.unwrap_or(Micros::MAX),
            Status::Active | Status::Expired => self.active_to_readers_until(),
        }
    }
}

/// The units of one product that were taken, at least and at most. The two differ where a
/// deadline was moved: nobody knows the very moment.
#[derive(Default)]
struct Occupancy {
    changes: BTreeMap<Micros, Change>,
    /// After the changes of each moment, and with those taken before others were given back.
    most: Vec<(Micros, i64, i64)>,
}

#[derive(Default)]
struct Change {
    taken: i64,
    given_back: i64,
}

impl Occupancy {
    fn add(&mut self, life: &Life) {
        let hold = life.hold;
        self.changes.entry(hold.created).or_default().taken += hold.quantity;
        if hold.status != Status::Confirmed {
            let until = life.active_to_verbs_until();
            self.changes.entry(until).or_default().given_back += hold.quantity;
        }
    }

    fn count(&mut self) {
        let mut taken = 0;
        for (at, change) in &self.changes {
            let peak = taken + change.taken;
            taken = peak - change.given_back;
            self.most.push((*at, peak, taken));
        }
    }

    fn most(&self, from: Micros, to: Micros) -> i64 {
        let first = self.most.partition_point(|(at, ..)| *at < from);
        let before = first.checked_sub(1).map_or(0, |last| self.most[last].2);
        self.most[first..]
            .iter()
            .take_while(|(at, ..)| *at <= to)
            .map(|(_, peak, _)| *peak)
            .fold(before, i64::max)
    }
}
