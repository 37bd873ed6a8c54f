//! The lives of the holds, and the number of units taken at each time.

use std::collections::{BTreeMap, HashMap};

use crate::chaos::{
    clock::Micros,
    history::{Answer, Entry, History, Hold, Operation, Request, Status},
};

pub(super) struct Lives<'a> {
    lives: HashMap<i64, Life<'a>>,
    occupancy: HashMap<i64, Occupancy>,
    /// The units of each user by product.
    shares: HashMap<(i64, i64), Occupancy>,
    /// The entries of each product's waitlist.
    lines: HashMap<i64, Vec<&'a Entry>>,
}

/// One hold.
pub(super) struct Life<'a> {
    pub(super) hold: &'a Hold,
    /// End of the last move of its deadline, if any.
    pub(super) moved: Option<Micros>,
    /// Operations that may have extended it.
    pub(super) extensions: Vec<&'a Operation>,
    /// The first moment at which a client knew that it had ended, or was returned.
    known_ended: Option<Micros>,
    known_returned: Option<Micros>,
}

/// What operations and moves say about each hold, by its id.
#[derive(Default)]
struct Said<'a> {
    moved: HashMap<i64, Micros>,
    extensions: HashMap<i64, Vec<&'a Operation>>,
    ended: HashMap<i64, Micros>,
    returned: HashMap<i64, Micros>,
}

impl<'a> Said<'a> {
    fn by(history: &'a History) -> Self {
        let mut said = Self::default();
        for act in &history.moves {
            for id in &act.holds {
                let last = said.moved.entry(*id).or_insert(act.ended);
                *last = act.ended.max(*last);
            }
        }
        for operation in &history.operations {
            if let Request::Extend(id, _) = operation.request
                && operation.may_be_done()
            {
                said.extensions.entry(id).or_default().push(operation);
            }
            said.note_ends(operation);
        }
        said
    }

    fn note_ends(&mut self, operation: &Operation) {
        let earliest = |known: &mut HashMap<i64, Micros>, id: i64| {
            let first = known.entry(id).or_insert(operation.ended);
            *first = operation.ended.min(*first);
        };
        let seen = match &operation.answer {
            Answer::Hold(hold) => std::slice::from_ref(hold),
            Answer::Holds(holds) => holds,
            // Any other refusal says that the hold has ended.
            Answer::Refused { code, .. } => {
                if let Some(id) = operation.request.hold()
                    && code != "reservation_not_confirmed"
                {
                    earliest(&mut self.ended, id);
                }
                return;
            }
            _ => return,
        };
        for hold in seen.iter().filter(|hold| hold.status != Status::Active) {
            earliest(&mut self.ended, hold.id);
            if hold.status == Status::Returned {
                earliest(&mut self.returned, hold.id);
            }
        }
    }
}

/// The times of all changes of each product, in order.
struct Changes(HashMap<i64, Vec<Micros>>);

impl Changes {
    fn of(history: &History) -> Self {
        let mut changes: HashMap<i64, Vec<Micros>> = HashMap::new();
        for hold in &history.stored.holds {
            let times = changes.entry(hold.product).or_default();
            times.extend([Some(hold.created), hold.decided()].into_iter().flatten());
            times.extend(returned(hold));
        }
        for adjusted in &history.stored.adjustments {
            let times = changes.entry(adjusted.product).or_default();
            times.push(adjusted.at);
        }
        changes.values_mut().for_each(|times| times.sort_unstable());
        Self(changes)
    }

    /// When a change was committed at the latest: when the next one on the same product had the lock.
    fn committed(&self, product: i64, at: Micros) -> Option<Micros> {
        let times = self.0.get(&product)?;
        let next = times.partition_point(|time| *time <= at);
        times.get(next).copied()
    }
}

fn returned(hold: &Hold) -> Option<Micros> {
    hold.ended.filter(|_| hold.status == Status::Returned)
}

impl<'a> Lives<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let (mut said, changes) = (Said::by(history), Changes::of(history));
        let mut life = |hold: &'a Hold| {
            let committed = |at| changes.committed(hold.product, at);
            let ended = said.ended.get(&hold.id).copied();
            let given_back = said.returned.get(&hold.id).copied();
            Life {
                hold,
                moved: said.moved.get(&hold.id).copied(),
                extensions: said.extensions.remove(&hold.id).unwrap_or_default(),
                known_ended: ended
                    .into_iter()
                    .chain(hold.decided().and_then(committed))
                    .min(),
                known_returned: given_back
                    .into_iter()
                    .chain(returned(hold).and_then(committed))
                    .min(),
            }
        };
        let holds = history.stored.holds.iter();
        let lives: HashMap<i64, Life> = holds.map(|hold| (hold.id, life(hold))).collect();
        let mut occupancy: HashMap<i64, Occupancy> = HashMap::new();
        let mut shares: HashMap<(i64, i64), Occupancy> = HashMap::new();
        for life in lives.values() {
            let (product, user) = (life.hold.product, life.hold.user);
            occupancy.entry(product).or_default().add(life);
            shares.entry((product, user)).or_default().add(life);
        }
        // For requests, added units look like returned ones, once the adjustment is committed.
        for adjusted in &history.stored.adjustments {
            let occupancy = occupancy.entry(adjusted.product).or_default();
            let until = changes.committed(adjusted.product, adjusted.at);
            if adjusted.delta < 0 {
                let change = occupancy.changes.entry(adjusted.at).or_default();
                change.taken -= adjusted.delta;
            } else {
                let until = until.unwrap_or(Micros::MAX);
                let change = occupancy.changes.entry(until).or_default();
                change.given_back += adjusted.delta;
            }
        }
        occupancy.values_mut().for_each(Occupancy::count);
        shares.values_mut().for_each(Occupancy::count);
        let mut lines: HashMap<i64, Vec<&Entry>> = HashMap::new();
        for entry in &history.stored.entries {
            lines.entry(entry.product).or_default().push(entry);
        }
        Self {
            lives,
            occupancy,
            shares,
            lines,
        }
    }

    pub(super) fn get(&self, id: i64) -> Option<&Life<'a>> {
        self.lives.get(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Life<'a>> {
        self.lives.values()
    }

    /// Maximum number of taken units of a product that a request in this time span may have seen.
    pub(super) fn most_taken(&self, product: i64, from: Micros, to: Micros) -> i64 {
        self.occupancy
            .get(&product)
            .map_or(0, |occupancy| occupancy.most(from, to))
    }

    /// The entries of a product's waitlist, in the order of their ids.
    pub(super) fn line(&self, product: i64) -> &[&'a Entry] {
        self.lines.get(&product).map_or(&[], Vec::as_slice)
    }

    /// Whether somebody may have waited for the product at some moment of this time span.
    pub(super) fn may_wait(&self, product: i64, from: Micros, to: Micros) -> bool {
        let mut line = self.line(product).iter();
        line.any(|entry| entry.may_wait(from, to))
    }

    /// Maximum number of units of a product that a user may have had in this time span.
    pub(super) fn largest_share(
        &self,
        (product, user): (i64, i64),
        from: Micros,
        to: Micros,
    ) -> i64 {
        self.shares
            .get(&(product, user))
            .map_or(0, |share| share.most(from, to))
    }
}

impl Life<'_> {
    /// Whether extensions may have moved the deadline to this time, and none further. An answer contains the new
    /// deadline. With an unknown outcome, the deadline is the requested seconds from the request or later.
    pub(super) fn may_be_extended_to(&self, deadline: Micros, max_hold: Micros) -> bool {
        let latest = self.hold.created + max_hold;
        let mut extensions = self.extensions.iter();
        extensions.any(|extension| match (&extension.request, &extension.answer) {
            (_, Answer::Hold(hold)) => hold.expires == deadline,
            (Request::Extend(_, seconds), _) => {
                deadline >= latest.min(extension.began + seconds * 1_000_000)
            }
            _ => false,
        })
    }

    /// The last moment at which a request may have seen it ACTIVE. A confirm or cancel is stamped before its commit,
    /// and a reader without a lock sees ACTIVE until then. A deadline needs no commit.
    pub(super) fn active_until(&self) -> Micros {
        match self.hold.status {
            Status::Confirmed | Status::Canceled | Status::Returned => {
                self.known_ended.unwrap_or(Micros::MAX)
            }
            Status::Active | Status::Expired => {
                self.hold.expires.max(self.moved.unwrap_or(Micros::MIN))
            }
        }
    }
}

/// The maximum number of taken units of one product over time.
#[derive(Default)]
struct Occupancy {
    changes: BTreeMap<Micros, Change>,
    /// The taken units after all changes at a time.
    after: Vec<(Micros, i64)>,
}

#[derive(Default)]
struct Change {
    taken: i64,
    given_back: i64,
    /// Units freed by deadlines.
    expired: i64,
}

impl Occupancy {
    fn add(&mut self, life: &Life) {
        let hold = life.hold;
        let until = match hold.status {
            Status::Returned => life.known_returned.unwrap_or(Micros::MAX),
            _ => life.active_until(),
        };
        self.changes.entry(hold.created).or_default().taken += hold.quantity;
        let change = self.changes.entry(until).or_default();
        match hold.status {
            Status::Confirmed => {}
            Status::Canceled | Status::Returned => change.given_back += hold.quantity,
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

    /// A request reads the clock before the tables, so it does not see deadlines that pass in between.
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
