//! What a case is: two sides, and the figure that is compared.

use crate::stats::Goal;

/// One row of the report: two sides under the same load, in alternating rounds.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Title in the report.
    pub(crate) title: &'static str,
    pub(crate) goal: Goal,
    pub(crate) figure: Figure,
    pub(crate) ours: Side,
    pub(crate) theirs: Theirs,
    /// Takes minutes, so it runs only when named, or with `production` or `all`.
    pub(crate) only_when_named: bool,
}

/// What our figure is compared with.
pub(crate) enum Theirs {
    /// Nothing: the figure is absolute and has a goal.
    Nothing,
    /// The same figure of this side, whose rounds alternate with ours.
    Side(Side),
    /// Another figure of our own rounds, with this label.
    SameRounds(&'static str, Figure),
}

/// The figure that is compared.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Figure {
    /// Work per second, in this unit.
    PerSecond(&'static str),
    P50,
    P99,
    /// p99 of requests for the quiet product beside the loaded one.
    QuietP99,
    /// Time for a fixed amount of work.
    Seconds,
    /// CPU time of PostgreSQL per unit of work.
    PostgresMicroseconds,
    /// CPU time of all processes, servers and load, per unit of work.
    ProcessorMicroseconds,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Clients {
    /// The number of connections in the settings.
    Many,
    /// One connection: one request at a time.
    One,
    /// This number of connections.
    Exactly(u32),
}

/// A program under measurement. The label names its work: sides with the same label do the same work.
pub(crate) struct Side {
    pub(crate) label: &'static str,
    pub(crate) work: Work,
}

/// The work of a round.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Work {
    Reserves(Reserves),
    /// wrk reads one product as fast as the server answers.
    Reads(Server),
    Events(Events),
    Expiry(Expiry),
    /// One product under load from these clients, and a single client of another product; see `neighbour.rs`.
    Neighbour(Clients),
}

/// wrk reserves as fast as the server answers.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Reserves {
    pub(crate) server: Server,
    pub(crate) clients: Clients,
    pub(crate) sale: Sale,
    pub(crate) history: History,
    /// Number of server processes that share the load.
    pub(crate) copies: u32,
    pub(crate) headers: Headers,
    pub(crate) snapshot: Snapshot,
    pub(crate) standby: Standby,
}

/// Delivery of events to RabbitMQ; see `events.rs`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Events {
    /// wrk reserves and confirms, API and relay run, and a consumer receives.
    Lifecycle,
    /// The same at a steady 100 confirms per second, each of them timed.
    Steady,
    /// The relay starts with a backlog.
    Drain,
    /// The comparator: publishing alone.
    BarePublish,
}

/// 100,000 holds of one product that fall due at the same time; see `storm.rs`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Expiry {
    /// The expirer expires them.
    Storm,
    /// The comparator: one statement.
    Bare,
    /// Timed reserves of that product, while the expirer expires the holds.
    ReservesInStorm,
    /// The same reserves, while the holds are due much later.
    ReservesInQuiet,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Server {
    Flashsale,
    Noop,
    RedisGate,
    /// With this many connections to PostgreSQL: the best of 2, 4, 8, 16, 32 and 64 for each case (see
    /// `TEXTBOOK_POOL`). On one hot row, more connections only wait for each other.
    Textbook(u32),
}

/// The products during the load.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sale {
    /// This many products, each with more units than the load can take: the expected answer is 201.
    Open(u32),
    /// One product whose units are all held: the expected answer is 409.
    SoldOut,
}

/// The answer that is expected, and counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// 201: a hold.
    Created,
    /// 409: sold out.
    Conflict,
    /// 200: the product that was read.
    Found,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum History {
    None,
    /// Ten million ended reservations.
    TenMillion,
}

/// Additional headers of each request.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Headers {
    Plain,
    /// A random Idempotency-Key.
    IdempotencyKey,
    /// An API key, which the server requires.
    ApiKey,
}

/// Whether another session holds an old snapshot, so that PostgreSQL cannot remove old row versions.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Snapshot {
    None,
    /// Throughout the load, which runs for minutes before it is timed; see `snapshot.rs`.
    Held,
}

/// A synchronous standby that each commit waits for; see `standby.rs`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Standby {
    None,
    /// On this machine.
    Near,
    /// On this machine, with a delay of 1 ms in each direction.
    TwoMillisecondsAway,
}

/// Our server with one hot product, and without production settings.
pub(crate) const HOT_RESERVES: Reserves = Reserves {
    server: Server::Flashsale,
    clients: Clients::Many,
    sale: Sale::Open(1),
    history: History::None,
    copies: 1,
    headers: Headers::Plain,
    snapshot: Snapshot::None,
    standby: Standby::None,
};
pub(crate) const HOT: Side = reserves("hot_reserve", HOT_RESERVES);
pub(crate) const LONE: Side = reserves(
    "lone_reserve",
    Reserves {
        clients: Clients::One,
        ..HOT_RESERVES
    },
);
pub(crate) const REQUESTS_PER_SECOND: Figure = Figure::PerSecond("requests/s");

pub(crate) const fn reserves(label: &'static str, reserves: Reserves) -> Side {
    side(label, Work::Reserves(reserves))
}

pub(crate) const fn side(label: &'static str, work: Work) -> Side {
    Side { label, work }
}

impl Case {
    /// Ours, then theirs if there is one: the order of the rounds.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Side> {
        let theirs = match &self.theirs {
            Theirs::Side(side) => Some(side),
            Theirs::Nothing | Theirs::SameRounds(..) => None,
        };
        [&self.ours].into_iter().chain(theirs)
    }

    pub(crate) fn needs(&self, need: impl Fn(Work) -> bool) -> bool {
        self.sides().any(|side| need(side.work))
    }

    /// Whether the rounds of `earlier` also serve this case, because they had the same sides.
    pub(crate) fn repeats(&self, earlier: &Case) -> bool {
        self.sides()
            .all(|side| earlier.sides().any(|other| other.label == side.label))
    }
}

impl Sale {
    pub(crate) fn wanted(self) -> Wanted {
        match self {
            Self::Open(_) => Wanted::Created,
            Self::SoldOut => Wanted::Conflict,
        }
    }
}

impl Work {
    pub(crate) fn clients(self) -> Clients {
        match self {
            Self::Reserves(Reserves { clients, .. }) | Self::Neighbour(clients) => clients,
            Self::Reads(_) | Self::Events(_) | Self::Expiry(_) => Clients::Many,
        }
    }

    pub(crate) fn standby(self) -> Standby {
        match self {
            Self::Reserves(Reserves { standby, .. }) => standby,
            _ => Standby::None,
        }
    }

    pub(crate) fn has_history(self) -> bool {
        matches!(self, Self::Reserves(reserves) if reserves.history == History::TenMillion)
    }

    pub(crate) fn has_held_snapshot(self) -> bool {
        matches!(self, Self::Reserves(reserves) if reserves.snapshot == Snapshot::Held)
    }
}

impl Clients {
    /// The number of connections, where `many` is the number in the settings.
    pub(crate) fn connections(self, many: u32) -> u32 {
        match self {
            Self::Many => many,
            Self::One => 1,
            Self::Exactly(connections) => connections,
        }
    }
}

impl Figure {
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::PerSecond(unit) => unit,
            Self::P50 => "ms p50",
            Self::P99 | Self::QuietP99 => "ms p99",
            Self::Seconds => "s",
            Self::PostgresMicroseconds => "µs of PostgreSQL",
            Self::ProcessorMicroseconds => "µs of processor",
        }
    }
}
