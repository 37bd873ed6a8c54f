//! The committed state of one product in PostgreSQL, and the rules of each call.

use crate::{
    waitlist::{Entry, EntryStatus},
    world::{Kind, Protocol, Twin, Verb},
};

/// The duration of a hold, the time that an extension asks for, and the maximum duration of an extended hold, in
/// ticks of the clock.
const HOLD_TICKS: u8 = 1;
const EXTEND_TICKS: u8 = 2;
const LONGEST_TICKS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Status {
    Active,
    Confirmed,
    Canceled,
    Expired,
    Returned,
}

/// A row of `reservations`, with history for the properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hold {
    pub(crate) user: u8,
    pub(crate) units: i8,
    pub(crate) expires_at: u8,
    /// The deadline before the first move.
    pub(crate) moved_from: Option<u8>,
    pub(crate) status: Status,
    pub(crate) reacquired_from: Option<u8>,
    /// How often it ended.
    pub(crate) ends: u8,
    /// How often its units were returned.
    pub(crate) returned: u8,
    /// Whether it was sold or extended by a call that got the product's lock after the deadline.
    pub(crate) sold_late: bool,
    pub(crate) moved_late: bool,
    /// Whether it was expired before its deadline.
    pub(crate) expired_early: bool,
    /// Whether a reserve made it while another user waited for units.
    pub(crate) overtook: bool,
}

/// A row of `outbox_events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Event {
    pub(crate) hold: u8,
    pub(crate) published: bool,
    /// The number of its last lease. 0 if it had none since it was written or replayed.
    pub(crate) lease: u8,
    /// Whether this lease has not ended.
    pub(crate) is_leased: bool,
    /// Whether it has not been delivered since it was written or replayed.
    pub(crate) is_owed: bool,
}

impl Event {
    pub(crate) fn of(hold: u8) -> Self {
        Self {
            hold,
            published: false,
            lease: 0,
            is_leased: false,
            is_owed: true,
        }
    }
}

/// The product's row, its holds (a hold's id is its position) and their events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tables {
    pub(crate) stock: i8,
    pub(crate) held: i8,
    pub(crate) sold: i8,
    /// Initial units plus adjustments.
    pub(crate) total: i8,
    pub(crate) holds: Vec<Hold>,
    pub(crate) outbox: Vec<Event>,
    /// The waitlist, in the order of the joins.
    pub(crate) line: Vec<Entry>,
}

/// The uncommitted changes of a transaction. A crash discards them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Work {
    /// A new row.
    made: Option<Hold>,
    confirmed: Option<u8>,
    canceled: Option<u8>,
    /// A hold and its new deadline.
    extended: Option<(u8, u8)>,
    returned: Option<u8>,
    adjusted: i8,
    pub(crate) expired: Vec<u8>,
    /// A user who joins or leaves the waitlist.
    pub(crate) joined: Option<u8>,
    left: Option<u8>,
    /// The time of the offers, if users may wait in this world.
    offers_at: u8,
    pub(crate) answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    Confirmed(u8),
    Refused,
    /// Refused as sold out, although units were free.
    WronglySoldOut,
    /// Any other answer.
    Done,
}

impl Tables {
    pub(crate) fn new(units: i8) -> Self {
        Self {
            stock: units,
            held: 0,
            sold: 0,
            total: units,
            holds: Vec::new(),
            outbox: Vec::new(),
            line: Vec::new(),
        }
    }

    pub(crate) fn active(&self, is_wanted: impl Fn(&Hold) -> bool) -> impl Iterator<Item = u8> {
        let ids = self
            .holds
            .iter()
            .zip(0..)
            .filter(move |(hold, _)| hold.status == Status::Active && is_wanted(hold));
        ids.map(|(_, id)| id)
    }

    /// The holds that are past their deadline, longest due first.
    pub(crate) fn due(&self, t: u8) -> Vec<u8> {
        let mut due: Vec<u8> = self.active(|hold| hold.expires_at <= t).collect();
        due.sort_by_key(|id| self.holds[usize::from(*id)].expires_at);
        due
    }

    /// Whether no unit is free or due at this time.
    pub(crate) fn is_sold_out(&self, clock: u8) -> bool {
        self.stock < 1 && self.due(clock).is_empty()
    }

    pub(crate) fn has_hold(&self, user: u8) -> bool {
        self.active(|hold| hold.user == user).next().is_some()
    }

    /// The changes of a verb's function at time `t`. They are not applied yet.
    pub(crate) fn work(&self, verb: Verb, t: u8, world: &Protocol) -> Work {
        let mut work = self.work_of(verb, t, world);
        if world.kinds.contains(&Kind::Join) {
            work.offers_at = t;
        }
        work
    }

    fn work_of(&self, verb: Verb, t: u8, world: &Protocol) -> Work {
        let twin = world.twin;
        match verb {
            Verb::Reserve(user) => self.reserve(user, t, world),
            Verb::Confirm(id) => self.confirm(id, t, twin),
            Verb::Cancel(id) => self.cancel(id, t),
            Verb::Extend(id) => self.extend(id, t, twin),
            Verb::Reacquire(id) => self.reacquire(id, t, world),
            Verb::Return(id) => self.take_back(id),
            Verb::Adjust(delta) => self.adjust(delta, t),
            Verb::Join(user) => self.join(user, t, world),
            Verb::Leave(user) => Work {
                left: Some(user),
                ..Work::that(Answer::Done)
            },
            Verb::Expire if twin == Some(Twin::ExpireWithoutSweep) => {
                self.expire(self.active(|hold| hold.expires_at == t).collect())
            }
            Verb::Expire => self.expire(self.due(t)),
        }
    }

    fn reserve(&self, user: u8, t: u8, world: &Protocol) -> Work {
        let mut work = Work::that(Answer::Refused);
        let own: Vec<u8> = self.active(|hold| hold.user == user).collect();
        for id in own {
            if self.holds[usize::from(id)].expires_at > t {
                return work;
            }
            work.expired.push(id);
        }
        // Free and due units belong to those who wait. (The service serves the request, too, if units are left then.
        // Here that is a second request.)
        if self.waiting().next().is_some() && world.twin != Some(Twin::ReserveBesideLine) {
            work.expired = self.due(t);
            return work;
        }
        let units = world.wants[usize::from(user)];
        if world.twin != Some(Twin::ReserveWithoutReclaim) {
            self.reclaim(units, t, &mut work);
        }
        let due: i8 = self.units(&self.due(t));
        if self.stock + self.units(&work.expired) < units {
            if self.stock + due >= units {
                work.answer = Answer::WronglySoldOut;
            }
        } else if units <= self.remaining(user, t, world) {
            work.made = Some(Hold::new(user, units, t));
            work.answer = Answer::Done;
        }
        work
    }

    pub(crate) fn hold(&mut self, hold: Hold) {
        self.stock -= hold.units;
        match hold.status {
            Status::Confirmed => self.sold += hold.units,
            _ => self.held += hold.units,
        }
        self.holds.push(hold);
    }

    /// Expires due holds, longest due first, until this many units are free or no hold is due.
    fn reclaim(&self, units: i8, t: u8, work: &mut Work) {
        for id in self.due(t) {
            let lacking = self.stock + self.units(&work.expired) < units;
            if lacking && !work.expired.contains(&id) {
                work.expired.push(id);
            }
        }
    }

    fn units(&self, ids: &[u8]) -> i8 {
        let units = ids.iter().map(|id| self.holds[usize::from(*id)].units);
        units.sum()
    }

    /// How many more units a user may have.
    pub(crate) fn remaining(&self, user: u8, t: u8, world: &Protocol) -> i8 {
        let has = self.holds.iter().filter(|hold| {
            let live = hold.status == Status::Active && hold.expires_at > t;
            hold.user == user && (live || hold.status == Status::Confirmed)
        });
        world.max_per_user - has.map(|hold| hold.units).sum::<i8>()
    }

    fn confirm(&self, id: u8, t: u8, twin: Option<Twin>) -> Work {
        let hold = self.holds[usize::from(id)];
        let in_time = hold.expires_at > t || twin == Some(Twin::ConfirmWithoutDeadline);
        match hold.status {
            Status::Active if in_time => Work {
                confirmed: Some(id),
                ..Work::that(Answer::Confirmed(id))
            },
            Status::Confirmed => Work::that(Answer::Confirmed(id)),
            _ => Work::that(Answer::Refused),
        }
    }

    fn cancel(&self, id: u8, t: u8) -> Work {
        let hold = self.holds[usize::from(id)];
        match hold.status {
            Status::Active if hold.expires_at > t => Work {
                canceled: Some(id),
                ..Work::that(Answer::Done)
            },
            _ => Work::that(Answer::Refused),
        }
    }

    fn extend(&self, id: u8, t: u8, twin: Option<Twin>) -> Work {
        let hold = self.holds[usize::from(id)];
        let in_time = hold.expires_at > t || twin == Some(Twin::ExtendWithoutDeadline);
        let until = (t + EXTEND_TICKS).min(hold.longest());
        match hold.status {
            Status::Active if in_time => Work {
                extended: (until > hold.expires_at).then_some((id, until)),
                ..Work::that(Answer::Done)
            },
            _ => Work::that(Answer::Refused),
        }
    }

    fn reacquire(&self, id: u8, t: u8, world: &Protocol) -> Work {
        let lost = self.holds[usize::from(id)];
        let is_due = lost.status == Status::Active && lost.expires_at <= t;
        if lost.status != Status::Expired && !is_due {
            return Work::that(Answer::Refused);
        }
        let earlier = self.again(id).next();
        if let Some(again) = earlier.filter(|_| world.twin != Some(Twin::ReacquireWithoutLook)) {
            return Work::that(match self.holds[usize::from(again)].status {
                Status::Confirmed => Answer::Confirmed(again),
                _ => Answer::Refused,
            });
        }
        let mut work = Work::that(Answer::Refused);
        self.reclaim(lost.units, t, &mut work);
        let limited = world.twin != Some(Twin::ReacquireWithoutLimit)
            && lost.units > self.remaining(lost.user, t, world);
        if self.stock + self.units(&work.expired) >= lost.units && !limited {
            work.made = Some(Hold {
                expires_at: t,
                status: Status::Confirmed,
                reacquired_from: Some(id),
                ends: 1,
                ..Hold::new(lost.user, lost.units, t)
            });
            work.answer = Answer::Confirmed(self.holds.len() as u8);
        }
        work
    }

    /// The reservations that reacquired this one.
    pub(crate) fn again(&self, id: u8) -> impl Iterator<Item = u8> {
        let rows = self.holds.iter().zip(0..);
        rows.filter(move |(hold, _)| hold.reacquired_from == Some(id))
            .map(|(_, id)| id)
    }

    fn take_back(&self, id: u8) -> Work {
        match self.holds[usize::from(id)].status {
            Status::Confirmed => Work {
                returned: Some(id),
                ..Work::that(Answer::Done)
            },
            _ => Work::that(Answer::Refused),
        }
    }

    fn adjust(&self, delta: i8, t: u8) -> Work {
        let mut work = Work::that(Answer::Done);
        self.reclaim(-delta, t, &mut work);
        if self.stock + self.units(&work.expired) + delta >= 0 {
            work.adjusted = delta;
        }
        work
    }

    /// Expires these holds without checking their status. The caller must have checked it.
    pub(crate) fn expire(&self, due: Vec<u8>) -> Work {
        Work {
            expired: due,
            ..Work::that(Answer::Done)
        }
    }

    /// Commits a transaction's changes at once. Counters change by differences, as in the real updates. The
    /// transaction got the product's lock at `locked_at`.
    pub(crate) fn commit(&mut self, work: &Work, locked_at: u8, now: u8, world: &Protocol) {
        for &id in &work.expired {
            let hold = &mut self.holds[usize::from(id)];
            hold.expired_early = now < hold.expires_at;
            self.end(id, Status::Expired);
        }
        if let Some(id) = work.canceled {
            self.end(id, Status::Canceled);
        }
        if let Some((id, until)) = work.extended {
            let hold = &mut self.holds[usize::from(id)];
            hold.moved_late = locked_at >= hold.expires_at;
            hold.moved_from.get_or_insert(hold.expires_at);
            hold.expires_at = until;
        }
        if let Some(id) = work.confirmed {
            let hold = &mut self.holds[usize::from(id)];
            hold.status = Status::Confirmed;
            hold.ends += 1;
            hold.sold_late = locked_at >= hold.expires_at;
            self.held -= hold.units;
            self.sold += hold.units;
        }
        if let Some(id) = work.returned {
            let hold = &mut self.holds[usize::from(id)];
            hold.status = Status::Returned;
            hold.returned += 1;
            self.sold -= hold.units;
            self.stock += hold.units;
        }
        self.stock += work.adjusted;
        self.total += work.adjusted;
        if let Some(hold) = work.made {
            let overtook = hold.reacquired_from.is_none() && self.waiting().next().is_some();
            self.hold(Hold { overtook, ..hold });
        }
        if let Some(id) = work.sells()
            && world.twin != Some(Twin::EventAfterCommit)
        {
            self.write_event(id);
        }
        if let Some(user) = work.left {
            for entry in &mut self.line {
                if entry.user == user && entry.status == EntryStatus::Waiting {
                    entry.status = EntryStatus::Ended;
                }
            }
        }
        if let Some(user) = work.joined {
            self.line.push(Entry {
                user,
                units: world.wants[usize::from(user)],
                status: EntryStatus::Waiting,
            });
        }
        if world.twin != Some(Twin::OfferAfterCommit) || work.joined.is_some() {
            self.offer(work.offers_at, world);
        }
    }

    fn end(&mut self, id: u8, status: Status) {
        let hold = &mut self.holds[usize::from(id)];
        hold.status = status;
        hold.ends += 1;
        hold.returned += 1;
        self.held -= hold.units;
        self.stock += hold.units;
    }

    pub(crate) fn write_event(&mut self, hold: u8) {
        self.outbox.push(Event::of(hold));
    }
}

impl Hold {
    pub(crate) fn new(user: u8, units: i8, t: u8) -> Self {
        Self {
            user,
            units,
            expires_at: t + HOLD_TICKS,
            moved_from: None,
            status: Status::Active,
            reacquired_from: None,
            ends: 0,
            returned: 0,
            sold_late: false,
            moved_late: false,
            expired_early: false,
            overtook: false,
        }
    }

    /// The latest deadline that it may have.
    pub(crate) fn longest(&self) -> u8 {
        let created_at = self.moved_from.unwrap_or(self.expires_at) - HOLD_TICKS;
        created_at + LONGEST_TICKS
    }
}

impl Work {
    pub(crate) fn that(answer: Answer) -> Self {
        Self {
            made: None,
            confirmed: None,
            canceled: None,
            extended: None,
            returned: None,
            adjusted: 0,
            expired: Vec::new(),
            joined: None,
            left: None,
            offers_at: 0,
            answer,
        }
    }

    pub(crate) fn makes_row(&self) -> bool {
        self.made.is_some() || self.joined.is_some()
    }

    /// The hold that is about to be sold.
    pub(crate) fn sells(&self) -> Option<u8> {
        match (self.confirmed, self.made, self.answer) {
            (Some(id), ..) => Some(id),
            (None, Some(hold), Answer::Confirmed(id)) if hold.status == Status::Confirmed => {
                Some(id)
            }
            _ => None,
        }
    }
}
