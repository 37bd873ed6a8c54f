//! What happened, as the clients, the injector, the consumer and in the end the database tell it.
//!
//! Every time is Unix time in microseconds. The database's clock and ours are the same machine's, so that
//! what an answer says of a time can be compared with when it was asked for and when it came.

use std::{collections::BTreeMap, fmt};

pub type Micros = i64;

/// Everything that the checker looks at.
#[derive(Clone, Default)]
pub struct History {
    pub began: Micros,
    /// How long a hold lasts where its product says nothing else, and how long at most when it is extended.
    pub hold_micros: Micros,
    pub max_hold_micros: Micros,
    /// Most units of a product that a user may hold and have bought, when it is made.
    pub max_per_user: i64,
    /// Each product with the units it was made with.
    pub products: BTreeMap<i64, i64>,
    pub operations: Vec<Operation>,
    pub moves: Vec<Move>,
    pub deliveries: Vec<Delivery>,
    /// What the viewer of each API's live page was shown.
    pub viewers: Vec<Vec<Shown>>,
    pub stored: Stored,
}

/// A request of a client, and what became of it.
#[derive(Clone, Debug)]
pub struct Operation {
    pub client: usize,
    /// Which API was asked, from 0.
    pub api: usize,
    pub began: Micros,
    pub ended: Micros,
    pub request: Request,
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
    pub answer: Answer,
    /// Whether the answer calls itself that of an earlier request with the key.
    pub replayed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// With a key the reference is this request's own, and there is none without.
    Reserve {
        product: i64,
        user: i64,
        quantity: i64,
        reference: Option<String>,
    },
    /// All of the products with their quantities, or none. The reference is this request's own.
    Together {
        user: i64,
        items: Vec<(i64, i64)>,
        reference: String,
    },
    Confirm(i64),
    Cancel(i64),
    /// To so many seconds from now.
    Extend(i64, i64),
    /// Confirms, and takes the units of an expired hold again.
    Reacquire(i64),
    Return(i64),
    /// The reason is this request's own.
    Adjust {
        product: i64,
        delta: i64,
        reason: String,
    },
    Get(i64),
    ListOfUser(i64),
    Product(i64),
    /// The name is this request's own.
    CreateProduct(String),
    /// Only what is given.
    ChangeProduct {
        product: i64,
        hold_seconds: Option<i64>,
        max_per_user: Option<i64>,
    },
    SyncExpired,
    Audit,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Hold(Hold),
    Holds(Vec<Hold>),
    Product(Product),
    Audit {
        clean: bool,
        text: String,
    },
    Done,
    /// A refusal for a reason; `already_reserved` names the hold that stands in the way, and a refusal of
    /// several products the one that it is about.
    Refused {
        code: String,
        standing: Option<i64>,
        product: Option<i64>,
    },
    /// 503 `overloaded`: nothing was done.
    Overloaded,
    /// 409 `idempotency_key_in_use`: for this request nothing was done.
    InUse,
    /// Nobody knows: no answer, half an answer, or 503 `outcome_unknown`.
    Unknown(String),
    /// Nothing that the service may answer.
    Strange(String),
}

/// A reservation: as an answer shows it, or as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    pub id: i64,
    pub product: i64,
    pub user: i64,
    pub quantity: i64,
    pub status: Status,
    pub created: Micros,
    pub expires: Micros,
    /// When it came to its end, by the column of its status.
    pub ended: Option<Micros>,
    /// When it was sold, returned or not.
    pub confirmed: Option<Micros>,
    pub reacquired_from: Option<i64>,
    pub reference: Option<String>,
}

impl Hold {
    /// When it ceased to be ACTIVE, if it did other than by its deadline.
    pub fn decided(&self) -> Option<Micros> {
        match self.status {
            Status::Active | Status::Expired => None,
            Status::Canceled => self.ended,
            Status::Confirmed | Status::Returned => self.confirmed,
        }
    }

    /// When its units were free again, by the rows: not yet, where it is sold.
    pub fn freed(&self) -> Option<Micros> {
        match self.status {
            Status::Confirmed => None,
            // A deadline can have been moved to before the hold was made.
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

/// The counters of a product, and its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    pub id: i64,
    pub stock: i64,
    pub held: i64,
    pub sold: i64,
    pub total: i64,
    pub hold_seconds: Option<i64>,
    pub max_per_user: Option<i64>,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Adjustment {
    pub id: i64,
    pub product: i64,
    pub delta: i64,
    pub reason: String,
    pub at: Micros,
}

/// The injector moved the deadline of some holds into the past, under their product's lock.
#[derive(Clone, Debug)]
pub struct Move {
    pub holds: Vec<i64>,
    pub began: Micros,
    pub ended: Micros,
    /// Whether PostgreSQL said that it was done; if not, it may have been.
    pub done: bool,
}

/// A message that the consumer got.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub at: Micros,
    /// Its `message_id`.
    pub event: String,
    /// Whether the broker says that it has delivered it before.
    pub redelivered: bool,
    /// Its header of this name.
    pub version: Option<i64>,
    pub told: Option<Told>,
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub event_type: String,
    /// The reservation; or the adjustment, of nobody, with its delta as the quantity.
    pub id: i64,
    pub product: i64,
    pub user: i64,
    pub quantity: i64,
    pub at: Micros,
}

impl Told {
    /// The reservation that it tells of.
    pub fn hold(&self) -> Option<i64> {
        (self.event_type != "StockAdjusted").then_some(self.id)
    }
}

/// A message of the live page's stream.
#[derive(Clone, Debug)]
pub struct Shown {
    pub at: Micros,
    /// On which of the viewer's connections, from 0.
    pub connection: usize,
    /// The `Last-Event-ID` of the connection.
    pub after: Option<String>,
    /// Or what came where a message should be.
    pub message: Result<View, String>,
}

/// What a message says.
#[derive(Clone, Debug)]
pub struct View {
    /// The two parts of its id.
    pub epoch: String,
    pub number: u64,
    /// Whether it is a `state`; a `tick` has only those products that have changed.
    pub whole: bool,
    /// Code and title of each.
    pub alerts: Vec<(String, String)>,
    /// How the last audit ended, if there was one.
    pub clean: Option<bool>,
    pub products: Vec<Product>,
    pub waiting_events: i64,
    pub dead_events: i64,
}

/// What the servers hold in the end.
#[derive(Clone, Default)]
pub struct Stored {
    pub read: Micros,
    pub products: Vec<Product>,
    /// What the products are called.
    pub names: BTreeMap<i64, String>,
    pub holds: Vec<Hold>,
    pub adjustments: Vec<Adjustment>,
    pub events: Vec<Event>,
    /// The holds of which Redis still has a timer.
    pub timers: Vec<i64>,
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
    /// The hold that is asked for by its id.
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
}

impl Request {
    pub fn takes_a_key(&self) -> bool {
        !matches!(
            self,
            Self::Get(_)
                | Self::ListOfUser(_)
                | Self::Product(_)
                | Self::ChangeProduct { .. }
                | Self::SyncExpired
                | Self::Audit
        )
    }

    /// The products and quantities that it wants held.
    pub fn items(&self) -> Vec<(i64, i64)> {
        match self {
            Self::Reserve {
                product, quantity, ..
            } => vec![(*product, *quantity)],
            Self::Together { items, .. } => items.clone(),
            _ => Vec::new(),
        }
    }

    pub fn user(&self) -> Option<i64> {
        match self {
            Self::Reserve { user, .. } | Self::Together { user, .. } => Some(*user),
            _ => None,
        }
    }

    /// By which the holds are known that it makes.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::Reserve { reference, .. } => reference.as_deref(),
            Self::Together { reference, .. } => Some(reference),
            _ => None,
        }
    }
}

impl Operation {
    /// Whether PostgreSQL has decided it.
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
                | Request::ListOfUser(_)
                | Request::Product(_)
                | Request::CreateProduct(_)
                | Request::SyncExpired
                | Request::Audit
        )
    }

    /// Whether it may have been done, or was.
    pub fn may_be_done(&self) -> bool {
        matches!(
            self.answer,
            Answer::Hold(_) | Answer::Holds(_) | Answer::Product(_) | Answer::Unknown(_)
        )
    }

    /// Every hold that it asks for or is answered with.
    pub fn holds(&self) -> Vec<i64> {
        let answered: Vec<i64> = match &self.answer {
            Answer::Hold(hold) => vec![hold.id],
            Answer::Holds(holds) => holds.iter().map(|hold| hold.id).collect(),
            Answer::Refused { standing, .. } => standing.iter().copied().collect(),
            _ => Vec::new(),
        };
        self.request.hold().into_iter().chain(answered).collect()
    }

    /// A name for the kind of request.
    pub fn verb(&self) -> &'static str {
        match self.request {
            Request::Reserve { .. } => "reserve",
            Request::Together { .. } => "reserve together",
            Request::Extend(..) => "extend",
            Request::Reacquire(_) => "reacquire",
            Request::Return(_) => "return",
            Request::Adjust { .. } => "adjust stock",
            Request::Confirm(_) => "confirm",
            Request::Cancel(_) => "cancel",
            Request::Get(_) => "get",
            Request::ListOfUser(_) => "list",
            Request::Product(_) => "product",
            Request::CreateProduct(_) => "create product",
            Request::ChangeProduct { .. } => "change product",
            Request::SyncExpired => "sync-expired",
            Request::Audit => "audit",
        }
    }

    /// A name for the kind of answer.
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

impl History {
    /// One line for a reader, with times as seconds since the beginning.
    pub fn describe(&self, operation: &Operation) -> String {
        let Operation {
            client,
            api,
            request,
            ..
        } = operation;
        let answer = self.describe_answer(&operation.answer);
        let key = operation.key.as_deref();
        let key = key.map_or(String::new(), |key| format!(" with key {key}"));
        let replayed = if operation.replayed { ", replayed" } else { "" };
        format!(
            "{} to {}  client {client} to api{}  {request:?}{key}: {answer}{replayed}",
            self.clock(operation.began),
            self.clock(operation.ended),
            api + 1
        )
    }

    pub fn describe_answer(&self, answer: &Answer) -> String {
        match answer {
            Answer::Hold(hold) => self.describe_hold(hold),
            Answer::Holds(holds) => holds
                .iter()
                .map(|hold| self.describe_hold(hold))
                .collect::<Vec<_>>()
                .join("; "),
            other => format!("{other:?}"),
        }
    }

    pub fn describe_hold(&self, hold: &Hold) -> String {
        let ended = hold
            .ended
            .map_or(String::new(), |at| format!(", ended {}", self.clock(at)));
        format!(
            "hold {} of {} units of product {} by user {} is {:?}, made {}, due {}{ended}",
            hold.id,
            hold.quantity,
            hold.product,
            hold.user,
            hold.status,
            self.clock(hold.created),
            self.clock(hold.expires)
        )
    }

    /// Seconds since the beginning.
    pub fn clock(&self, at: Micros) -> Clock {
        Clock(at - self.began)
    }
}

/// Microseconds, shown as seconds.
pub struct Clock(Micros);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, micros) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}
