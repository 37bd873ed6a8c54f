//! What PostgreSQL has committed about one product, and the rules that calls apply to it.

use crate::world::{Twin, Verb};

/// How long a hold lasts, in ticks of the clock.
pub(crate) const HOLD_TICKS: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Status {
    Active,
    Confirmed,
    Canceled,
    Expired,
}

/// A row of `reservations`, and what the properties want to know of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hold {
    pub(crate) user: u8,
    pub(crate) expires_at: u8,
    pub(crate) status: Status,
    /// How often it came to an end.
    pub(crate) ends: u8,
    /// How often its unit came back.
    pub(crate) returned: u8,
    /// Whether it was sold by a call that gained the product's lock after the deadline.
    pub(crate) sold_late: bool,
}

/// A row of `outbox_events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Event {
    pub(crate) hold: u8,
    pub(crate) published: bool,
}

/// The product's row, its holds (a hold's id is its position) and their events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tables {
    pub(crate) stock: i8,
    pub(crate) held: i8,
    pub(crate) sold: i8,
    pub(crate) holds: Vec<Hold>,
    pub(crate) outbox: Vec<Event>,
}

/// What a transaction has written and not committed: a crash forgets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Work {
    /// A new hold: its user and deadline.
    reserved: Option<(u8, u8)>,
    confirmed: Option<u8>,
    canceled: Option<u8>,
    expired: Vec<u8>,
    pub(crate) answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    Reserved,
    Confirmed(u8),
    Canceled,
    Refused,
    /// Refused, though a unit was to be had.
    WronglySoldOut,
    Swept,
}

impl Tables {
    pub(crate) fn new(units: i8) -> Self {
        Self {
            stock: units,
            held: 0,
            sold: 0,
            holds: Vec::new(),
            outbox: Vec::new(),
        }
    }

    fn active(&self, is_wanted: impl Fn(&Hold) -> bool) -> impl Iterator<Item = u8> {
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

    /// Whether there is nothing to be had at this time.
    pub(crate) fn is_sold_out(&self, clock: u8) -> bool {
        self.stock < 1 && self.due(clock).is_empty()
    }

    pub(crate) fn has_hold(&self, user: u8) -> bool {
        self.active(|hold| hold.user == user).next().is_some()
    }

    /// The statements of a verb's function, all by the time `t`. They change nothing yet.
    pub(crate) fn work(&self, verb: Verb, t: u8, twin: Option<Twin>) -> Work {
        match verb {
            Verb::Reserve(user) => self.reserve(user, t, twin),
            Verb::Confirm(id) => self.confirm(id, t, twin),
            Verb::Cancel(id) => self.cancel(id, t),
            Verb::Expire if twin == Some(Twin::ExpireWithoutSweep) => {
                self.expire(self.active(|hold| hold.expires_at == t).collect())
            }
            Verb::Expire => self.expire(self.due(t)),
        }
    }

    fn reserve(&self, user: u8, t: u8, twin: Option<Twin>) -> Work {
        let mut work = Work::that(Answer::Refused);
        let own: Vec<u8> = self.active(|hold| hold.user == user).collect();
        for id in own {
            if self.holds[usize::from(id)].expires_at > t {
                return work;
            }
            work.expired.push(id);
        }
        let mut free = self.stock + work.expired.len() as i8;
        let due = self.due(t);
        if free < 1 && twin != Some(Twin::ReserveWithoutReclaim) {
            // Just what is lacking: one unit.
            let longest_due = due.iter().find(|id| !work.expired.contains(id));
            work.expired.extend(longest_due);
            free += longest_due.map_or(0, |_| 1);
        }
        if free >= 1 {
            work.reserved = Some((user, t + HOLD_TICKS));
            work.answer = Answer::Reserved;
        } else if !due.is_empty() {
            work.answer = Answer::WronglySoldOut;
        }
        work
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
                ..Work::that(Answer::Canceled)
            },
            Status::Canceled => Work::that(Answer::Canceled),
            _ => Work::that(Answer::Refused),
        }
    }

    /// Ends these holds, whatever they have become meanwhile: the caller has to know.
    pub(crate) fn expire(&self, due: Vec<u8>) -> Work {
        Work {
            expired: due,
            ..Work::that(Answer::Swept)
        }
    }

    /// Makes a transaction's work durable and visible, all at once. The counters are changed by
    /// differences, as the updates do. `locked_at`: when the transaction gained the product's lock.
    pub(crate) fn commit(&mut self, work: &Work, locked_at: u8, twin: Option<Twin>) {
        for &id in &work.expired {
            self.end(id, Status::Expired);
        }
        if let Some(id) = work.canceled {
            self.end(id, Status::Canceled);
        }
        if let Some(id) = work.confirmed {
            self.held -= 1;
            self.sold += 1;
            let hold = &mut self.holds[usize::from(id)];
            hold.status = Status::Confirmed;
            hold.ends += 1;
            hold.sold_late = locked_at >= hold.expires_at;
            if twin != Some(Twin::EventAfterCommit) {
                self.write_event(id);
            }
        }
        if let Some((user, expires_at)) = work.reserved {
            self.stock -= 1;
            self.held += 1;
            self.holds.push(Hold {
                user,
                expires_at,
                status: Status::Active,
                ends: 0,
                returned: 0,
                sold_late: false,
            });
        }
    }

    fn end(&mut self, id: u8, status: Status) {
        self.held -= 1;
        self.stock += 1;
        let hold = &mut self.holds[usize::from(id)];
        hold.status = status;
        hold.ends += 1;
        hold.returned += 1;
    }

    pub(crate) fn write_event(&mut self, hold: u8) {
        self.outbox.push(Event {
            hold,
            published: false,
        });
    }
}

impl Work {
    fn that(answer: Answer) -> Self {
        Self {
            reserved: None,
            confirmed: None,
            canceled: None,
            expired: Vec::new(),
            answer,
        }
    }

    /// The hold that is about to be sold.
    pub(crate) fn sells(&self) -> Option<u8> {
        self.confirmed
    }
}
