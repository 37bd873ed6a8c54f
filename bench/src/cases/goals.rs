//! The product compared with other designs, and its costs: the goals of the project.

use crate::case::{
    Case, Clients, Events, Expiry, Figure, HOT, HOT_RESERVES, History, LONE, REQUESTS_PER_SECOND,
    Reserves, Sale, Server, Side, Theirs, Work, reserves, side,
};
use crate::stats::Goal;

const EVENTS_PER_SECOND: Figure = Figure::PerSecond("events/s");

const NOOP: Side = comparator("noop", Server::Noop, Clients::Many, Sale::Open(1));
const BARE_PUBLISH: Side = events("bare_publish", Events::BarePublish);
const STEADY: Side = events("event_latency", Events::Steady);

pub(super) static CASES: &[Case] = &[
    Case {
        name: "hot_reserve/noop",
        title: "One hot product vs. HTTP alone",
        goal: Goal::at_least(0.42, 0.50),
        figure: REQUESTS_PER_SECOND,
        ours: HOT,
        theirs: Theirs::Side(NOOP),
        only_when_named: false,
    },
    Case {
        name: "hot_reserve/redis_gate",
        title: "One hot product vs. a gate in Redis",
        goal: Goal::at_least(0.70, 1.00),
        figure: REQUESTS_PER_SECOND,
        ours: HOT,
        theirs: Theirs::Side(comparator(
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
        goal: Goal::at_least(27.0, 35.0),
        figure: REQUESTS_PER_SECOND,
        ours: HOT,
        theirs: Theirs::Side(comparator(
            "textbook",
            Server::Textbook(4),
            Clients::Many,
            Sale::Open(1),
        )),
        only_when_named: false,
    },
    Case {
        name: "hot_reserve_postgres_us",
        title: "PostgreSQL's processor time, one hot product",
        goal: Goal::at_most(13.0, 10.0),
        figure: Figure::PostgresMicroseconds,
        ours: HOT,
        theirs: Theirs::Nothing,
        only_when_named: false,
    },
    Case {
        name: "hot_reserve_cpu/noop_cpu",
        title: "All processor time, hot product vs. HTTP alone",
        goal: Goal::at_most(2.05, 1.8),
        figure: Figure::ProcessorMicroseconds,
        ours: HOT,
        theirs: Theirs::Side(NOOP),
        only_when_named: false,
    },
    Case {
        name: "spread_reserve/textbook",
        title: "100 products vs. the textbook",
        goal: Goal::at_least(9.0, 12.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "spread_reserve",
            Reserves {
                sale: Sale::Open(100),
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(comparator(
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
        goal: Goal::at_least(0.65, 0.75),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "sold_out",
            Reserves {
                sale: Sale::SoldOut,
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(NOOP),
        only_when_named: false,
    },
    Case {
        name: "get_product/noop",
        title: "Reads of one product vs. HTTP alone",
        goal: Goal::at_least(0.65, 0.75),
        figure: REQUESTS_PER_SECOND,
        ours: side("get_product", Work::Reads(Server::Flashsale)),
        theirs: Theirs::Side(side("noop_get", Work::Reads(Server::Noop))),
        only_when_named: false,
    },
    Case {
        name: "lone_p99/textbook",
        title: "p99 of a lone request vs. the textbook",
        goal: Goal::at_most(1.0, 0.8),
        figure: Figure::P99,
        ours: LONE,
        theirs: Theirs::Side(comparator(
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
        goal: Goal::at_least(0.27, 0.35),
        figure: EVENTS_PER_SECOND,
        ours: events("lifecycle", Events::Lifecycle),
        theirs: Theirs::Side(BARE_PUBLISH),
        only_when_named: false,
    },
    Case {
        name: "relay_drain/bare_publish",
        title: "Relay, a backlog vs. publishing alone",
        goal: Goal::at_least(0.8, 0.95),
        figure: EVENTS_PER_SECOND,
        ours: events("relay_drain", Events::Drain),
        theirs: Theirs::Side(BARE_PUBLISH),
        only_when_named: false,
    },
    Case {
        name: "event_p50_ms",
        title: "Commit to consumer, 100 a second, p50",
        goal: Goal::at_most(3.0, 1.5),
        figure: Figure::P50,
        ours: STEADY,
        theirs: Theirs::Nothing,
        only_when_named: false,
    },
    Case {
        name: "event_p99_ms",
        title: "Commit to consumer, 100 a second, p99",
        goal: Goal::at_most(12.0, 5.0),
        figure: Figure::P99,
        ours: STEADY,
        theirs: Theirs::Nothing,
        only_when_named: false,
    },
    Case {
        name: "storm/bare_expire",
        title: "100,000 due holds vs. one statement",
        goal: Goal::at_most(1.8, 1.3),
        figure: Figure::Seconds,
        ours: expiry("storm", Expiry::Storm),
        theirs: Theirs::Side(expiry("bare_expire", Expiry::Bare)),
        only_when_named: false,
    },
    Case {
        name: "storm_p99/quiet_p99",
        title: "p99 of reserves in that storm vs. without",
        goal: Goal::at_most(2.5, 1.5),
        figure: Figure::P99,
        ours: expiry("storm_p99", Expiry::ReservesInStorm),
        theirs: Theirs::Side(expiry("quiet_p99", Expiry::ReservesInQuiet)),
        only_when_named: false,
    },
    Case {
        name: "hot_reserve_10m/hot_reserve",
        title: "10 million rows of history vs. none",
        goal: Goal::at_least(0.95, 1.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "hot_reserve_10m",
            Reserves {
                history: History::TenMillion,
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(HOT),
        only_when_named: true,
    },
];

const fn comparator(label: &'static str, server: Server, clients: Clients, sale: Sale) -> Side {
    reserves(
        label,
        Reserves {
            server,
            clients,
            sale,
            ..HOT_RESERVES
        },
    )
}

const fn events(label: &'static str, events: Events) -> Side {
    side(label, Work::Events(events))
}

const fn expiry(label: &'static str, expiry: Expiry) -> Side {
    side(label, Work::Expiry(expiry))
}
