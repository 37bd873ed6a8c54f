//! What is measured against what, and what is asked of it.

use crate::stats::Goal;

/// One row of the report: two sides under the same load, in turns.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) title: &'static str,
    pub(crate) goal: Goal,
    pub(crate) figure: Figure,
    pub(crate) ours: Side,
    /// Without it the figure is absolute: it is compared with the goal alone.
    pub(crate) theirs: Option<Side>,
    /// Takes minutes to prepare, so it runs only when named, or with `all`.
    pub(crate) only_when_named: bool,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Figure {
    /// Work done in a second, in this unit.
    PerSecond(&'static str),
    P50,
    P99,
    /// How long a given amount of work takes.
    Seconds,
}

#[derive(Clone, Copy)]
pub(crate) enum Clients {
    /// As many connections as the settings say.
    Many,
    /// One connection: a lone request at a time.
    One,
}

pub(crate) struct Side {
    pub(crate) label: &'static str,
    pub(crate) work: Work,
}

/// What is done and timed in a round.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    Reserves(Reserves),
    Events(Events),
    Expiry(Expiry),
}

/// wrk reserves as fast as a server answers.
#[derive(Clone, Copy)]
pub(crate) struct Reserves {
    pub(crate) server: Server,
    pub(crate) clients: Clients,
    pub(crate) sale: Sale,
    pub(crate) history: History,
}

/// Events on their way to RabbitMQ; see `events.rs`.
#[derive(Clone, Copy)]
pub(crate) enum Events {
    /// wrk reserves and confirms; API and relay run; a consumer receives.
    Lifecycle,
    /// The same at a steady 100 confirms a second, each timed.
    Steady,
    /// The relay is started on a backlog.
    Drain,
    /// The comparator: publishing alone.
    BarePublish,
}

/// 100,000 holds of one product that fall due together; see `storm.rs`.
#[derive(Clone, Copy)]
pub(crate) enum Expiry {
    /// The expirer drains them.
    Storm,
    /// The comparator: one statement.
    Bare,
    /// Reserves of that product, timed, while the expirer drains them.
    ReservesInStorm,
    /// The same reserves, with the same holds due much later.
    ReservesInQuiet,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Server {
    Flashsale,
    Noop,
    RedisGate,
    /// With this many connections to PostgreSQL: the best, case by case, of 2, 4, 8, 16, 32 and 64 (see
    /// `TEXTBOOK_POOL`). On the hot row more of them only wait for each other.
    Textbook(u32),
}

/// What is on sale while the load runs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sale {
    /// This many products, and more units of each than the load can take: 201 is asked for.
    Open(u32),
    /// One product whose units are all held: 409 is asked for.
    SoldOut,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum History {
    None,
    /// Ten million reservations that have come to their end.
    TenMillion,
}

const REQUESTS_PER_SECOND: Figure = Figure::PerSecond("requests/s");
const EVENTS_PER_SECOND: Figure = Figure::PerSecond("events/s");

const HOT: Side = flashsale("hot_reserve", Clients::Many, Sale::Open(1));
const NOOP: Side = against("noop", Server::Noop, Clients::Many, Sale::Open(1));
const BARE_PUBLISH: Side = events("bare_publish", Events::BarePublish);
const STEADY: Side = events("event_latency", Events::Steady);

pub(crate) static CASES: &[Case] = &[
    Case {
        name: "hot_reserve/noop",
        title: "One hot product vs. HTTP alone",
        goal: Goal::at_least(0.38, 0.50),
        figure: REQUESTS_PER_SECOND,
        ours: HOT,
        theirs: Some(NOOP),
        only_when_named: false,
    },
    Case {
        name: "hot_reserve/redis_gate",
        title: "One hot product vs. a gate in Redis",
        goal: Goal::at_least(0.65, 1.00),
        figure: REQUESTS_PER_SECOND,
        ours: HOT,
        theirs: Some(against(
            "redis_gate",
            Server::RedisGate,
            Clients::Many,
            Sale::Open(1),
        )),
        only_when_named: false,
    },
    Case {
        name: "hot_reserve/textbook",
        title: "One hot product vs. the textbook",
        goal: Goal::at_least(20.0, 30.0),
        figure: REQUESTS_PER_SECOND,
        ours: HOT,
        theirs: Some(against(
            "textbook",
            Server::Textbook(4),
            Clients::Many,
            Sale::Open(1),
        )),
        only_when_named: false,
    },
    Case {
        name: "spread_reserve/textbook",
        title: "100 products vs. the textbook",
        goal: Goal::at_least(7.0, 10.0),
        figure: REQUESTS_PER_SECOND,
        ours: flashsale("spread_reserve", Clients::Many, Sale::Open(100)),
        theirs: Some(against(
            "textbook_spread",
            Server::Textbook(8),
            Clients::Many,
            Sale::Open(100),
        )),
        only_when_named: false,
    },
    Case {
        name: "sold_out/noop",
        title: "Sold out vs. HTTP alone",
        goal: Goal::at_least(0.62, 0.75),
        figure: REQUESTS_PER_SECOND,
        ours: flashsale("sold_out", Clients::Many, Sale::SoldOut),
        theirs: Some(NOOP),
        only_when_named: false,
    },
    Case {
        name: "lone_p99/textbook",
        title: "p99 of a lone request vs. the textbook",
        goal: Goal::at_most(1.3, 1.0),
        figure: Figure::P99,
        ours: flashsale("lone_p99", Clients::One, Sale::Open(1)),
        theirs: Some(against(
            "textbook_lone",
            Server::Textbook(4),
            Clients::One,
            Sale::Open(1),
        )),
        only_when_named: false,
    },
    Case {
        name: "lifecycle/bare_publish",
        title: "Reserve, confirm, event vs. publishing alone",
        goal: Goal::at_least(0.35, 0.5),
        figure: EVENTS_PER_SECOND,
        ours: events("lifecycle", Events::Lifecycle),
        theirs: Some(BARE_PUBLISH),
        only_when_named: false,
    },
    Case {
        name: "relay_drain/bare_publish",
        title: "Relay, a backlog vs. publishing alone",
        goal: Goal::at_least(0.7, 0.9),
        figure: EVENTS_PER_SECOND,
        ours: events("relay_drain", Events::Drain),
        theirs: Some(BARE_PUBLISH),
        only_when_named: false,
    },
    Case {
        name: "event_p50_ms",
        title: "Commit to consumer, 100 a second, p50",
        goal: Goal::at_most(5.0, 2.0),
        figure: Figure::P50,
        ours: STEADY,
        theirs: None,
        only_when_named: false,
    },
    Case {
        name: "event_p99_ms",
        title: "Commit to consumer, 100 a second, p99",
        goal: Goal::at_most(25.0, 10.0),
        figure: Figure::P99,
        ours: STEADY,
        theirs: None,
        only_when_named: false,
    },
    Case {
        name: "storm/bare_expire",
        title: "100,000 due holds vs. one statement",
        goal: Goal::at_most(2.0, 1.3),
        figure: Figure::Seconds,
        ours: expiry("storm", Expiry::Storm),
        theirs: Some(expiry("bare_expire", Expiry::Bare)),
        only_when_named: false,
    },
    Case {
        name: "storm_p99/quiet_p99",
        title: "p99 of reserves in that storm vs. without",
        goal: Goal::at_most(3.0, 1.5),
        figure: Figure::P99,
        ours: expiry("storm_p99", Expiry::ReservesInStorm),
        theirs: Some(expiry("quiet_p99", Expiry::ReservesInQuiet)),
        only_when_named: false,
    },
    Case {
        name: "hot_reserve_10m/hot_reserve",
        title: "10 million rows of history vs. none",
        goal: Goal::at_least(0.85, 0.95),
        figure: REQUESTS_PER_SECOND,
        ours: side(
            "hot_reserve_10m",
            Work::Reserves(Reserves {
                server: Server::Flashsale,
                clients: Clients::Many,
                sale: Sale::Open(1),
                history: History::TenMillion,
            }),
        ),
        theirs: Some(HOT),
        only_when_named: true,
    },
];

const fn flashsale(label: &'static str, clients: Clients, sale: Sale) -> Side {
    against(label, Server::Flashsale, clients, sale)
}

const fn against(label: &'static str, server: Server, clients: Clients, sale: Sale) -> Side {
    let history = History::None;
    side(
        label,
        Work::Reserves(Reserves {
            server,
            clients,
            sale,
            history,
        }),
    )
}

const fn events(label: &'static str, events: Events) -> Side {
    side(label, Work::Events(events))
}

const fn expiry(label: &'static str, expiry: Expiry) -> Side {
    side(label, Work::Expiry(expiry))
}

const fn side(label: &'static str, work: Work) -> Side {
    Side { label, work }
}

impl Case {
    /// Ours, and theirs if there is one: the order in which they take turns.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Side> {
        [&self.ours].into_iter().chain(&self.theirs)
    }

    pub(crate) fn needs(&self, need: impl Fn(Work) -> bool) -> bool {
        self.sides().any(|side| need(side.work))
    }
}

impl Figure {
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::PerSecond(unit) => unit,
            Self::P50 => "ms p50",
            Self::P99 => "ms p99",
            Self::Seconds => "s",
        }
    }
}
