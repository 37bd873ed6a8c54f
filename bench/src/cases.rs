//! What is measured against what, and what is asked of it.

mod goals;
mod production;

use crate::stats::Goal;

/// One row of the report: two sides under the same load, in turns.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// For people.
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
    /// Nothing: the figure is absolute, and compared with the goal alone.
    Nothing,
    /// The same figure of this side, whose rounds take turns with ours.
    Side(Side),
    /// Another figure of our own rounds, which has this label.
    SameRounds(&'static str, Figure),
}

/// What is compared.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Figure {
    /// Work done in a second, in this unit.
    PerSecond(&'static str),
    P50,
    P99,
    /// Of the requests for the quiet product beside the one under load.
    QuietP99,
    /// How long a given amount of work takes.
    Seconds,
    /// PostgreSQL's processor time for a unit of work.
    PostgresMicroseconds,
    /// The same of everything: servers and load.
    ProcessorMicroseconds,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Clients {
    /// As many connections as the settings say.
    Many,
    /// One connection: a lone request at a time.
    One,
    /// The case's own number of connections.
    Exactly(u32),
}

/// What runs. Its label names its work: sides with the same label do the same.
pub(crate) struct Side {
    pub(crate) label: &'static str,
    pub(crate) work: Work,
}

/// What is done and timed in a round.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Work {
    Reserves(Reserves),
    Events(Events),
    Expiry(Expiry),
    /// A product under load from so many clients, and a lone client of another product; see `neighbour.rs`.
    Neighbour(Clients),
}

/// wrk reserves as fast as a server answers.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Reserves {
    pub(crate) server: Server,
    pub(crate) clients: Clients,
    pub(crate) sale: Sale,
    pub(crate) history: History,
    /// How many processes of the server share the load.
    pub(crate) copies: u32,
    pub(crate) headers: Headers,
    pub(crate) snapshot: Snapshot,
    pub(crate) standby: Standby,
}

/// Events on their way to RabbitMQ; see `events.rs`.
#[derive(Clone, Copy, PartialEq)]
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
#[derive(Clone, Copy, PartialEq)]
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

/// What each request has besides its body.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Headers {
    Plain,
    /// A random Idempotency-Key of its own.
    IdempotencyKey,
    /// An API key, which the server requires.
    ApiKey,
}

/// Whether another session keeps an old snapshot, so that PostgreSQL cannot clean up behind updates.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Snapshot {
    None,
    /// From before the load to after it, and the load lasts minutes before it is timed; see `snapshot.rs`.
    Held,
}

/// A synchronous standby, for which each commit waits; see `standby.rs`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Standby {
    None,
    /// On this machine.
    Near,
    /// On this machine, and its connection delays every byte by a millisecond in each direction.
    TwoMillisecondsAway,
}

/// Our server, one hot product, and none of the settings that production has.
const HOT_RESERVES: Reserves = Reserves {
    server: Server::Flashsale,
    clients: Clients::Many,
    sale: Sale::Open(1),
    history: History::None,
    copies: 1,
    headers: Headers::Plain,
    snapshot: Snapshot::None,
    standby: Standby::None,
};
const HOT: Side = reserves("hot_reserve", HOT_RESERVES);
const LONE: Side = reserves(
    "lone_reserve",
    Reserves {
        clients: Clients::One,
        ..HOT_RESERVES
    },
);
const REQUESTS_PER_SECOND: Figure = Figure::PerSecond("requests/s");

const fn reserves(label: &'static str, reserves: Reserves) -> Side {
    side(label, Work::Reserves(reserves))
}

const fn side(label: &'static str, work: Work) -> Side {
    Side { label, work }
}

/// Every case, in the order in which they run.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    goals::CASES.iter().chain(production::CASES)
}

impl Case {
    /// Ours, and theirs if there is one: the order in which they take turns.
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

    /// Whether it compares settings that production has with the usual ones.
    pub(crate) fn is_production(&self) -> bool {
        production::CASES.iter().any(|case| case.name == self.name)
    }

    /// Whether the rounds of `earlier` serve for this case too: its sides took turns there.
    pub(crate) fn repeats(&self, earlier: &Case) -> bool {
        self.sides()
            .all(|side| earlier.sides().any(|other| other.label == side.label))
    }
}

impl Work {
    pub(crate) fn clients(self) -> Clients {
        match self {
            Self::Reserves(Reserves { clients, .. }) | Self::Neighbour(clients) => clients,
            Self::Events(_) | Self::Expiry(_) => Clients::Many,
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
    /// How many connections they have, where the settings say `many`.
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_same_label_means_the_same_work_and_names_are_unique() {
        let mut works = HashMap::new();
        for side in all().flat_map(Case::sides) {
            let work = works.entry(side.label).or_insert(side.work);
            assert!(*work == side.work, "{} means two things", side.label);
        }
        let mut names: Vec<&str> = all().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
    }

    #[test]
    fn a_case_repeats_an_earlier_one_that_has_all_its_sides() {
        let case = |name: &str| all().find(|case| case.name == name).expect("a case");
        let repeats = |one: &str, earlier: &str| case(one).repeats(case(earlier));
        assert!(repeats("hot_reserve_cpu/noop_cpu", "hot_reserve/noop"));
        assert!(repeats("hot_reserve_postgres_us", "hot_reserve/noop"));
        assert!(repeats("event_p99_ms", "event_p50_ms"));
        assert!(repeats("lone_postgres_us", "lone_p99/textbook"));
        assert!(
            !repeats("hot_reserve/redis_gate", "hot_reserve/noop"),
            "the gate did not take turns with ours there"
        );
    }

    #[test]
    fn each_floor_is_no_harder_to_meet_than_its_goal() {
        for Case { name, goal, .. } in all() {
            assert!(goal.score(goal.floor) <= 1.0, "{name}");
        }
    }
}
