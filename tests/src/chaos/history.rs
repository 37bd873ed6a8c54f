//! The recorded history of a run: clients, injector, consumer, and the final state of the database.

mod entry;

use std::collections::{BTreeMap, HashSet};

use super::clock::Micros;
pub use entry::{Entry, EntryStatus};

/// Everything that the checker reads.
#[derive(Clone, Default)]
pub struct History {
    pub began: Micros,
    /// Default duration of a hold, and its maximum duration when extended.
    pub hold_micros: Micros,
    pub max_hold_micros: Micros,
    /// Initial `max_per_user` of a product.
    pub max_per_user: i64,
    /// The initial units of each product.
    pub products: BTreeMap<i64, i64>,
    pub operations: Vec<Operation>,
    pub moves: Vec<Move>,
    pub deliveries: Vec<Delivery>,
    /// The messages that the viewer of each API's live page received.
    pub viewers: Vec<Vec<Shown>>,
    pub stored: Stored,
}

/// A client's request and its outcome.
#[derive(Clone, Debug)]
pub struct Operation {
    pub client: usize,
    /// Index of the API, from 0.
    pub api: usize,
    pub began: Micros,
    pub ended: Micros,
    pub request: Request,
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
    pub answer: Answer,
    /// Whether the answer is marked as a replay.
    pub replayed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Request {
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
    /// The name is unique to this request.
    CreateProduct(String),
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
pub enum Act {
    Confirm,
    Cancel,
    /// By this number of seconds from now.
    Extend(i64),
    Reacquire,
}

impl Act {
    /// The same act on one hold.
    pub fn on(self, hold: i64) -> Request {
        match self {
            Self::Confirm => Request::Confirm(hold),
            Self::Cancel => Request::Cancel(hold),
            Self::Extend(seconds) => Request::Extend(hold, seconds),
            Self::Reacquire => Request::Reacquire(hold),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
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
pub struct Hold {
    pub id: i64,
    pub product: i64,
    pub user: i64,
    pub quantity: i64,
    pub status: Status,
    pub created: Micros,
    pub expires: Micros,
    /// When it ended, from the column of its status.
    pub ended: Option<Micros>,
    /// When it was sold, even if it was returned later.
    pub confirmed: Option<Micros>,
    pub reacquired_from: Option<i64>,
    pub reference: Option<String>,
}

impl Hold {
    /// When it stopped being ACTIVE, other than by its deadline.
    pub fn decided(&self) -> Option<Micros> {
        match self.status {
            Status::Active | Status::Expired => None,
            Status::Canceled => self.ended,
            Status::Confirmed | Status::Returned => self.confirmed,
        }
    }

    /// When its units became free again, by the rows. `None` while it is sold.
    pub fn freed(&self) -> Option<Micros> {
        match self.status {
            Status::Confirmed => None,
            // The injector can move a deadline to a time before the creation.
            _ => Some(self.ended.unwrap_or(self.expires).max(self.created)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Active,
    Confirmed,
    Canceled,
    Expired,
    Returned,
}

impl Status {
    pub fn parse(name: &str) -> Option<Self> {
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
pub struct Product {
    pub id: i64,
    pub stock: i64,
    pub held: i64,
    pub sold: i64,
    pub total: i64,
    pub hold_seconds: Option<i64>,
    pub max_per_user: Option<i64>,
    /// Number of entries that wait.
    pub waiting: i64,
}

impl Product {
    /// Whether the counters add up.
    pub fn conserves(&self) -> bool {
        let parts = [self.stock, self.held, self.sold];
        parts.iter().all(|units| *units >= 0) && parts.iter().sum::<i64>() == self.total
    }
}

/// A row of `stock_adjustments`.
#[derive(Clone, Debug, PartialEq)]
pub struct Adjustment {
    pub id: i64,
    pub product: i64,
    pub delta: i64,
    pub reason: String,
    pub at: Micros,
}

/// The injector moved the deadlines of some holds into the past, under the lock of their product.
#[derive(Clone, Debug)]
pub struct Move {
    pub holds: Vec<i64>,
    pub began: Micros,
    pub ended: Micros,
    /// Whether PostgreSQL confirmed it. If not, it may have been done.
    pub done: bool,
}

/// A message that the consumer received.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub at: Micros,
    /// Its `message_id`.
    pub event: String,
    /// Whether the broker marked it as redelivered.
    pub redelivered: bool,
    /// Its `version` header.
    pub version: Option<i64>,
    pub told: Option<Told>,
}

/// The content of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub event_type: String,
    /// The reservation's id, or the id of a stock adjustment, which has no user and its delta as quantity.
    pub id: i64,
    pub product: i64,
    pub user: i64,
    pub quantity: i64,
    pub at: Micros,
}

impl Told {
    /// The reservation that the event is about.
    pub fn hold(&self) -> Option<i64> {
        (self.event_type != "StockAdjusted").then_some(self.id)
    }
}

/// A message of the live page's stream.
#[derive(Clone, Debug)]
pub struct Shown {
    pub at: Micros,
    /// Index of the viewer's connection, from 0.
    pub connection: usize,
    /// The `Last-Event-ID` that the connection was opened with.
    pub after: Option<String>,
    /// The message, or invalid content.
    pub message: Result<View, String>,
}

/// The content of a message.
#[derive(Clone, Debug)]
pub struct View {
    /// The two parts of its id.
    pub epoch: String,
    pub number: u64,
    /// Whether it is a `state`. A `tick` has only the products that changed.
    pub whole: bool,
    /// Code and title of each alert.
    pub alerts: Vec<(String, String)>,
    /// Result of the last audit, if any.
    pub clean: Option<bool>,
    pub products: Vec<Product>,
    pub waiting_events: i64,
    pub dead_events: i64,
}

/// The final content of the servers.
#[derive(Clone, Default)]
pub struct Stored {
    pub read: Micros,
    pub products: Vec<Product>,
    /// The names of the products.
    pub names: BTreeMap<i64, String>,
    pub holds: Vec<Hold>,
    pub adjustments: Vec<Adjustment>,
    pub entries: Vec<Entry>,
    pub events: Vec<Event>,
    /// The holds that still have a timer in Redis.
    pub timers: Vec<i64>,
}

impl Stored {
    /// The holds that were offered to a waitlist.
    pub fn offered(&self) -> HashSet<i64> {
        self.entries.iter().filter_map(|entry| entry.hold).collect()
    }
}

/// A row of the outbox.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its `event_id`.
    pub id: String,
    pub told: Option<Told>,
    pub published: bool,
    pub dead: bool,
}

impl Request {
    /// The hold that the request names by its id.
    pub fn hold(&self) -> Option<i64> {
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
    pub fn is_of_a_line(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Leave(_) | Self::GetEntry(_))
    }

    pub fn takes_a_key(&self) -> bool {
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
    pub fn items(&self) -> Vec<(i64, i64)> {
        match self {
            Self::Reserve {
                product, quantity, ..
            } => vec![(*product, *quantity)],
            Self::ReserveBatch { items, .. } => items.clone(),
            _ => Vec::new(),
        }
    }

    pub fn user(&self) -> Option<i64> {
        match self {
            Self::Reserve { user, .. } | Self::ReserveBatch { user, .. } => Some(*user),
            _ => None,
        }
    }

    /// The reference of the holds that it creates.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::Reserve { reference, .. } => reference.as_deref(),
            Self::ReserveBatch { reference, .. } => Some(reference),
            _ => None,
        }
    }
}

impl Operation {
    /// Whether PostgreSQL has decided the request.
    pub fn acknowledged(&self) -> bool {
        !matches!(
            self.answer,
            Answer::Overloaded | Answer::InUse | Answer::Unknown(_) | Answer::Strange(_)
        )
    }

    pub fn writes(&self) -> bool {
        !matches!(
            self.request,
            Request::Get(_)
                | Request::GetEntry(_)
                | Request::ListOfUser(_)
                | Request::Product(_)
                | Request::CreateProduct(_)
                | Request::SyncExpired
                | Request::Audit
        )
    }

    /// Whether it was done, or may have been.
    pub fn may_be_done(&self) -> bool {
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
    pub fn holds(&self) -> Vec<i64> {
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
    pub fn verb(&self) -> &'static str {
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
            Request::CreateProduct(_) => "create product",
            Request::ChangeProduct { .. } => "change product",
            Request::SyncExpired => "sync-expired",
            Request::Audit => "audit",
        }
    }

    /// The kind of answer.
    pub fn outcome(&self) -> &str {
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
