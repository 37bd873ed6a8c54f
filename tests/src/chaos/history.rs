//! The recorded history of a run: clients, injector, consumer, and the final state of the database.

mod entry;
mod hostile;

use std::collections::{BTreeMap, HashSet};

use super::clock::Micros;
pub(crate) use entry::{Entry, EntryStatus};
pub(crate) use hostile::{Behavior, HostileClients};

/// Everything that the checker reads.
#[derive(Clone, Default)]
pub(crate) struct History {
    pub(crate) began: Micros,
    /// Default duration of a hold, and its maximum duration when extended.
    pub(crate) hold_micros: Micros,
    pub(crate) max_hold_micros: Micros,
    /// Initial `max_per_user` of a product.
    pub(crate) max_per_user: i64,
    /// The initial units of each product.
    pub(crate) products: BTreeMap<i64, i64>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) moves: Vec<Move>,
    pub(crate) hostile: Vec<HostileClients>,
    pub(crate) deliveries: Vec<Delivery>,
    /// The messages that the viewer of each API's live page received.
    pub(crate) viewers: Vec<Vec<Shown>>,
    pub(crate) stored: Stored,
}

/// A client's request and its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    /// Index of the API, from 0.
    pub(crate) api: usize,
    pub(crate) began: Micros,
    pub(crate) ended: Micros,
    pub(crate) request: Request,
    /// Its `Idempotency-Key`.
    pub(crate) key: Option<String>,
    pub(crate) answer: Answer,
    /// Whether the answer is marked as a replay.
    pub(crate) replayed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    /// With a key, the reference is unique to this request. Without a key there is none.
    Reserve {
        product: i64,
        user: i64,
        quantity: i64,
        reference: Option<String>,
    },
    /// All products with their quantities, or none. The reference is unique to this request.
    ReserveBatch {
        user: i64,
        items: Vec<(i64, i64)>,
        reference: String,
    },
    Confirm(i64),
    Cancel(i64),
    /// The hold, and the new number of seconds from now.
    Extend(i64, i64),
    /// Confirms, or sells the units of an expired hold again.
    Reacquire(i64),
    Return(i64),
    /// The same act on several holds: all or none.
    Order(Act, Vec<i64>),
    /// The reason is unique to this request.
    Adjust {
        product: i64,
        delta: i64,
        reason: String,
    },
    /// The reference is unique to this request.
    Join {
        product: i64,
        user: i64,
        quantity: i64,
        reference: String,
    },
    Leave(i64),
    GetEntry(i64),
    Get(i64),
    ListOfUser(i64),
    Product(i64),
    /// The name, which is unique to this request, and the units.
    CreateProduct(String, i64),
    /// Only the given fields are changed.
    ChangeProduct {
        product: i64,
        hold_seconds: Option<i64>,
        max_per_user: Option<i64>,
    },
    SyncExpired,
    Audit,
}

/// What can be done with a whole order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Confirm,
    Cancel,
    /// By this number of seconds from now.
    Extend(i64),
    Reacquire,
}

impl Act {
    /// The same act on one hold.
    pub(crate) fn on(self, hold: i64) -> Request {
        match self {
            Self::Confirm => Request::Confirm(hold),
            Self::Cancel => Request::Cancel(hold),
            Self::Extend(seconds) => Request::Extend(hold, seconds),
            Self::Reacquire => Request::Reacquire(hold),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Hold(Hold),
    Holds(Vec<Hold>),
    Entry(Entry),
    Product(Product),
    Audit {
        clean: bool,
        text: String,
    },
    Done,
    /// A refusal with its code. `already_reserved` also has the existing hold, `already_waiting` the existing entry, and
    /// a refusal for several products has the product that caused it.
    Refused {
        code: String,
        standing: Option<i64>,
        product: Option<i64>,
    },
    /// 503 `overloaded`: nothing was done.
    Overloaded,
    /// 409 `idempotency_key_in_use`: nothing was done for this request.
    InUse,
    /// The outcome is unknown: no answer, a partial answer, or 503 `outcome_unknown`.
    Unknown(String),
    /// An answer that the service must never give.
    Strange(String),
}

/// A reservation, from an answer or from the database.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hold {
    pub(crate) id: i64,
    pub(crate) product: i64,
    pub(crate) user: i64,
    pub(crate) quantity: i64,
    pub(crate) status: Status,
    pub(crate) created: Micros,
    pub(crate) expires: Micros,
    /// When it ended, from the column of its status.
    pub(crate) ended: Option<Micros>,
    /// When it was sold, even if it was returned later.
    pub(crate) confirmed: Option<Micros>,
    pub(crate) reacquired_from: Option<i64>,
    pub(crate) reference: Option<String>,
}

impl Hold {
    /// When it stopped being ACTIVE, other than by its deadline.
    pub(crate) fn decided(&self) -> Option<Micros> {
        match self.status {
            Status::Active | Status::Expired => None,
            Status::Canceled => self.ended,
            Status::Confirmed | Status::Returned => self.confirmed,
        }
    }

    /// When its units became free again, by the rows. `None` while it is sold.
    pub(crate) fn freed(&self) -> Option<Micros> {
        match self.status {
            Status::Confirmed => None,
            // The injector can move a deadline to a time before the creation.
            _ => Some(self.ended.unwrap_or(self.expires).max(self.created)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Active,
    Confirmed,
    Canceled,
    Expired,
    Returned,
}

impl Status {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "ACTIVE" => Some(Self::Active),
            "CONFIRMED" => Some(Self::Confirmed),
            "CANCELED" => Some(Self::Canceled),
            "EXPIRED" => Some(Self::Expired),
            "RETURNED" => Some(Self::Returned),
            _ => None,
        }
    }
}

/// The counters and rules of a product.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) stock: i64,
    pub(crate) held: i64,
    pub(crate) sold: i64,
    pub(crate) total: i64,
    pub(crate) hold_seconds: Option<i64>,
    pub(crate) max_per_user: Option<i64>,
    /// Number of entries that wait.
    pub(crate) waiting: i64,
}

impl Product {
    /// Whether the counters add up.
    pub(crate) fn conserves(&self) -> bool {
        let parts = [self.stock, self.held, self.sold];
        parts.iter().all(|units| *units >= 0) && parts.iter().sum::<i64>() == self.total
    }
}

/// A row of `stock_adjustments`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Adjustment {
    pub(crate) id: i64,
    pub(crate) product: i64,
    pub(crate) delta: i64,
    pub(crate) reason: String,
    pub(crate) at: Micros,
}

/// The injector moved the deadlines of some holds into the past, under the lock of their product.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) holds: Vec<i64>,
    pub(crate) began: Micros,
    pub(crate) ended: Micros,
    /// Whether PostgreSQL confirmed it. If not, it may have been done.
    pub(crate) done: bool,
}

/// A message that the consumer received.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) at: Micros,
    /// Its `message_id`.
    pub(crate) event: String,
    /// Whether the broker marked it as redelivered.
    pub(crate) redelivered: bool,
    /// Its `version` header.
    pub(crate) version: Option<i64>,
    pub(crate) told: Option<Told>,
}

/// The content of an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) event_type: String,
    /// The reservation's id, or the id of a stock adjustment, which has no user and its delta as quantity.
    pub(crate) id: i64,
    pub(crate) product: i64,
    pub(crate) user: i64,
    pub(crate) quantity: i64,
    pub(crate) at: Micros,
}

impl Told {
    /// The reservation that the event is about.
    pub(crate) fn hold(&self) -> Option<i64> {
        (self.event_type != "StockAdjusted").then_some(self.id)
    }
}

/// A message of the live page's stream.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) at: Micros,
    /// Index of the viewer's connection, from 0.
    pub(crate) connection: usize,
    /// The `Last-Event-ID` that the connection was opened with.
    pub(crate) after: Option<String>,
    /// The message, or invalid content.
    pub(crate) message: Result<View, String>,
}

/// The content of a message.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// The two parts of its id.
    pub(crate) epoch: String,
    pub(crate) number: u64,
    /// Whether it is a `state`. A `tick` has only the products that changed.
    pub(crate) whole: bool,
    /// Code and title of each alert.
    pub(crate) alerts: Vec<(String, String)>,
    /// Result of the last audit, if any.
    pub(crate) clean: Option<bool>,
    pub(crate) products: Vec<Product>,
    pub(crate) waiting_events: i64,
    pub(crate) dead_events: i64,
}

/// The final content of the servers.
#[derive(Clone, Default)]
pub(crate) struct Stored {
    pub(crate) read: Micros,
    pub(crate) products: Vec<Product>,
    /// The names of the products.
    pub(crate) names: BTreeMap<i64, String>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) adjustments: Vec<Adjustment>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) events: Vec<Event>,
    /// The holds that still have a timer in Redis.
    pub(crate) timers: Vec<i64>,
}

impl Stored {
    /// The holds that were offered to a waitlist.
    pub(crate) fn offered(&self) -> HashSet<i64> {
        self.entries.iter().filter_map(|entry| entry.hold).collect()
    }
}

/// A row of the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Its `event_id`.
    pub(crate) id: String,
    pub(crate) told: Option<Told>,
    pub(crate) published_at: Option<Micros>,
    pub(crate) dead: bool,
}

impl Request {
    /// The hold that the request names by its id.
    pub(crate) fn hold(&self) -> Option<i64> {
        match self {
            Self::Confirm(id)
            | Self::Cancel(id)
            | Self::Extend(id, _)
            | Self::Reacquire(id)
            | Self::Return(id)
            | Self::Get(id) => Some(*id),
            _ => None,
        }
    }

    /// Whether it is about a waitlist.
    pub(crate) fn is_of_a_line(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Leave(_) | Self::GetEntry(_))
    }

    pub(crate) fn takes_a_key(&self) -> bool {
        !matches!(
            self,
            Self::Get(_)
                | Self::GetEntry(_)
                | Self::ListOfUser(_)
                | Self::Product(_)
                | Self::ChangeProduct { .. }
                | Self::SyncExpired
                | Self::Audit
        )
    }

    /// The products and quantities to hold.
    pub(crate) fn items(&self) -> Vec<(i64, i64)> {
        match self {
            Self::Reserve {
                product, quantity, ..
            } => vec![(*product, *quantity)],
            Self::ReserveBatch { items, .. } => items.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn user(&self) -> Option<i64> {
        match self {
            Self::Reserve { user, .. } | Self::ReserveBatch { user, .. } => Some(*user),
            _ => None,
        }
    }

    /// The reference of the holds that it creates.
    pub(crate) fn reference(&self) -> Option<&str> {
        match self {
            Self::Reserve { reference, .. } => reference.as_deref(),
            Self::ReserveBatch { reference, .. } => Some(reference),
            _ => None,
        }
    }
}

impl Operation {
    /// Whether PostgreSQL has decided the request.
    pub(crate) fn acknowledged(&self) -> bool {
        !matches!(
            self.answer,
            Answer::Overloaded | Answer::InUse | Answer::Unknown(_) | Answer::Strange(_)
        )
    }

    pub(crate) fn writes(&self) -> bool {
        !matches!(
            self.request,
            Request::Get(_)
                | Request::GetEntry(_)
                | Request::ListOfUser(_)
                | Request::Product(_)
                | Request::CreateProduct(..)
                | Request::SyncExpired
                | Request::Audit
        )
    }

    /// Whether it was done, or may have been.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(
            self.answer,
            Answer::Hold(_)
                | Answer::Holds(_)
                | Answer::Product(_)
                | Answer::Entry(_)
                | Answer::Unknown(_)
        )
    }

    /// Every hold in the request or its answer.
    pub(crate) fn holds(&self) -> Vec<i64> {
        let answered: Vec<i64> = match &self.answer {
            Answer::Hold(hold) => vec![hold.id],
            Answer::Holds(holds) => holds.iter().map(|hold| hold.id).collect(),
            Answer::Refused { standing, code, .. } if code != "already_waiting" => {
                standing.iter().copied().collect()
            }
            _ => Vec::new(),
        };
        let named = match &self.request {
            Request::Order(_, ids) => ids.clone(),
            request => request.hold().into_iter().collect(),
        };
        named.into_iter().chain(answered).collect()
    }

    /// The kind of request.
    pub(crate) fn verb(&self) -> &'static str {
        match self.request {
            Request::Reserve { .. } => "reserve",
            Request::ReserveBatch { .. } => "reserve batch",
            Request::Extend(..) => "extend",
            Request::Reacquire(_) => "reacquire",
            Request::Return(_) => "return",
            Request::Order(Act::Confirm, _) => "confirm batch",
            Request::Order(Act::Cancel, _) => "cancel batch",
            Request::Order(Act::Extend(_), _) => "extend batch",
            Request::Order(Act::Reacquire, _) => "reacquire batch",
            Request::Adjust { .. } => "adjust stock",
            Request::Confirm(_) => "confirm",
            Request::Cancel(_) => "cancel",
            Request::Join { .. } => "join",
            Request::Leave(_) => "leave",
            Request::GetEntry(_) => "get entry",
            Request::Get(_) => "get",
            Request::ListOfUser(_) => "list",
            Request::Product(_) => "product",
            Request::CreateProduct(..) => "create product",
            Request::ChangeProduct { .. } => "change product",
            Request::SyncExpired => "sync-expired",
            Request::Audit => "audit",
        }
    }

    /// The kind of answer.
    pub(crate) fn outcome(&self) -> &str {
        match &self.answer {
            Answer::Refused { code, .. } => code,
            Answer::Overloaded => "overloaded",
            Answer::InUse => "key in use",
            Answer::Unknown(_) => "unknown",
            Answer::Strange(_) => "strange",
            _ => "done",
        }
    }
}
