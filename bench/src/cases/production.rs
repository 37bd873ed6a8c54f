//! The product with production settings, compared with itself without them.
//!
//! If a case has only a lower bound, its goal is that the setting costs nothing.

use crate::case::{
    Case, Clients, Figure, HOT, HOT_RESERVES, Headers, LONE, REQUESTS_PER_SECOND, Reserves,
    Snapshot, Standby, Theirs, Work, reserves, side,
};
use crate::stats::Goal;

/// One copy, with the standby at the same distance as for two copies in the same case.
const HOT_SYNC_RESERVES: Reserves = Reserves {
    standby: Standby::TwoMillisecondsAway,
    ..HOT_RESERVES
};

/// More than one batch takes, so that requests wait in the lane.
const NEIGHBOURS: Clients = Clients::Exactly(2_000);

pub(super) static CASES: &[Case] = &[
    Case {
        name: "held_snapshot/hot_reserve",
        title: "After 2 minutes with a snapshot held vs. none",
        goal: Goal::at_least(0.8, 1.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "held_snapshot",
            Reserves {
                snapshot: Snapshot::Held,
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(HOT),
        only_when_named: true,
    },
    Case {
        name: "two_copies/hot_reserve",
        title: "Two copies of the API vs. one",
        goal: Goal::at_least(0.95, 1.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "two_copies",
            Reserves {
                copies: 2,
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(HOT),
        only_when_named: false,
    },
    Case {
        name: "four_copies/hot_reserve",
        title: "Four copies of the API vs. one",
        goal: Goal::at_least(0.9, 1.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "four_copies",
            Reserves {
                copies: 4,
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(HOT),
        only_when_named: false,
    },
    Case {
        name: "two_copies_sync/hot_reserve_sync",
        title: "Two copies vs. one, a standby 2 ms away",
        goal: Goal::at_least(0.9, 1.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "two_copies_sync",
            Reserves {
                copies: 2,
                ..HOT_SYNC_RESERVES
            },
        ),
        theirs: Theirs::Side(reserves("hot_reserve_sync", HOT_SYNC_RESERVES)),
        only_when_named: false,
    },
    Case {
        name: "sync_standby/hot_reserve",
        title: "A synchronous standby nearby vs. none",
        goal: Goal::at_least(0.85, 1.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "sync_standby",
            Reserves {
                standby: Standby::Near,
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(HOT),
        only_when_named: false,
    },
    Case {
        name: "keyed/hot_reserve",
        title: "An Idempotency-Key each vs. none",
        goal: Goal::at_least(0.75, 1.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "keyed",
            Reserves {
                headers: Headers::IdempotencyKey,
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(HOT),
        only_when_named: false,
    },
    Case {
        name: "api_keys/hot_reserve",
        title: "API keys required vs. not",
        goal: Goal::at_least(0.97, 1.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "api_keys",
            Reserves {
                headers: Headers::ApiKey,
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(HOT),
        only_when_named: false,
    },
    Case {
        name: "connections_4000/hot_reserve",
        title: "4,000 connections vs. the usual number",
        goal: Goal::at_least(1.0, 1.0),
        figure: REQUESTS_PER_SECOND,
        ours: reserves(
            "connections_4000",
            Reserves {
                clients: Clients::Exactly(4_000),
                ..HOT_RESERVES
            },
        ),
        theirs: Theirs::Side(HOT),
        only_when_named: false,
    },
    Case {
        name: "lone_postgres_us",
        title: "PostgreSQL's processor time, a lone request",
        goal: Goal::at_most(350.0, 300.0),
        figure: Figure::PostgresMicroseconds,
        ours: LONE,
        theirs: Theirs::Nothing,
        only_when_named: false,
    },
    Case {
        name: "neighbour_p99_ms",
        title: "p99 beside a hot product vs. that one's p50",
        goal: Goal::at_most(2.0, 1.0),
        figure: Figure::QuietP99,
        ours: side("quiet_neighbour", Work::Neighbour(NEIGHBOURS)),
        theirs: Theirs::SameRounds("hot_neighbour", Figure::P50),
        only_when_named: false,
    },
];
