//! What is measured against what, and what is asked of it.

use std::time::Duration;

use anyhow::bail;

use crate::stats::Goal;

/// One row of the report: two sides under the same load, in turns.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) title: &'static str,
    pub(crate) goal: Goal,
    pub(crate) figure: Figure,
    pub(crate) clients: Clients,
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
    /// Takes minutes to prepare, so it runs only when named, or with `all`.
    pub(crate) only_when_named: bool,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Figure {
    RequestsPerSecond,
    P99,
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
    pub(crate) server: Server,
    pub(crate) sale: Sale,
    pub(crate) history: History,
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

const HOT: Side = flashsale("hot_reserve", Sale::Open(1), History::None);

pub(crate) static CASES: &[Case] = &[
    Case {
        name: "hot_reserve/noop",
        title: "One hot product vs. HTTP alone",
        goal: Goal::at_least(0.38, 0.50),
        figure: Figure::RequestsPerSecond,
        clients: Clients::Many,
        ours: HOT,
        theirs: against("noop", Server::Noop, Sale::Open(1)),
        only_when_named: false,
    },
    Case {
        name: "hot_reserve/redis_gate",
        title: "One hot product vs. a gate in Redis",
        goal: Goal::at_least(0.65, 1.00),
        figure: Figure::RequestsPerSecond,
        clients: Clients::Many,
        ours: HOT,
        theirs: against("redis_gate", Server::RedisGate, Sale::Open(1)),
        only_when_named: false,
    },
    Case {
        name: "hot_reserve/textbook",
        title: "One hot product vs. the textbook",
        goal: Goal::at_least(20.0, 30.0),
        figure: Figure::RequestsPerSecond,
        clients: Clients::Many,
        ours: HOT,
        theirs: against("textbook", Server::Textbook(4), Sale::Open(1)),
        only_when_named: false,
    },
    Case {
        name: "spread_reserve/textbook",
        title: "100 products vs. the textbook",
        goal: Goal::at_least(7.0, 10.0),
        figure: Figure::RequestsPerSecond,
        clients: Clients::Many,
        ours: flashsale("spread_reserve", Sale::Open(100), History::None),
        theirs: against("textbook_spread", Server::Textbook(8), Sale::Open(100)),
        only_when_named: false,
    },
    Case {
        name: "sold_out/noop",
        title: "Sold out vs. HTTP alone",
        goal: Goal::at_least(0.62, 0.75),
        figure: Figure::RequestsPerSecond,
        clients: Clients::Many,
        ours: flashsale("sold_out", Sale::SoldOut, History::None),
        theirs: against("noop", Server::Noop, Sale::Open(1)),
        only_when_named: false,
    },
    Case {
        name: "lone_p99/textbook",
        title: "p99 of a lone request vs. the textbook",
        goal: Goal::at_most(1.3, 1.0),
        figure: Figure::P99,
        clients: Clients::One,
        ours: flashsale("lone_p99", Sale::Open(1), History::None),
        theirs: against("textbook_lone", Server::Textbook(4), Sale::Open(1)),
        only_when_named: false,
    },
    Case {
        name: "hot_reserve_10m/hot_reserve",
        title: "10 million rows of history vs. none",
        goal: Goal::at_least(0.85, 0.95),
        figure: Figure::RequestsPerSecond,
        clients: Clients::Many,
        ours: flashsale("hot_reserve_10m", Sale::Open(1), History::TenMillion),
        theirs: HOT,
        only_when_named: true,
    },
];

const fn flashsale(label: &'static str, sale: Sale, history: History) -> Side {
    let server = Server::Flashsale;
    Side {
        label,
        server,
        sale,
        history,
    }
}

const fn against(label: &'static str, server: Server, sale: Sale) -> Side {
    let history = History::None;
    Side {
        label,
        server,
        sale,
        history,
    }
}

/// The cases that `names` asks for: names between commas or spaces, `all`, or nothing for the usual ones.
pub(crate) fn chosen(names: &str) -> anyhow::Result<Vec<&'static Case>> {
    let names: Vec<&str> = names
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|name| !name.is_empty())
        .collect();
    for name in &names {
        if *name != "all" && !CASES.iter().any(|case| case.name == *name) {
            let known: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            bail!(
                "there is no case '{name}'. There are: {}, and 'all'",
                known.join(", ")
            );
        }
    }
    Ok(CASES
        .iter()
        .filter(|case| {
            names.contains(&case.name)
                || names.contains(&"all")
                || (names.is_empty() && !case.only_when_named)
        })
        .collect())
}

/// How long the cases take: each round starts its server and warms it up, which takes about 3 s.
pub(crate) fn about(cases: &[&Case], rounds: u32, seconds: u32) -> Duration {
    let preparing: u32 = cases
        .iter()
        .map(|case| if case.only_when_named { 180 } else { 0 })
        .sum();
    // A handful of cases, hundreds of rounds, minutes each at most: far below the limit.
    let sides = 2 * cases.len() as u32;
    Duration::from_secs((sides * rounds * (seconds + 3) + preparing).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &str) -> Vec<&'static str> {
        let cases = chosen(asked).expect("known names");
        cases.iter().map(|case| case.name).collect()
    }

    #[test]
    fn nothing_asked_means_all_but_the_slow_ones() {
        assert_eq!(names("").len(), CASES.len() - 1);
        assert!(!names(" ").contains(&"hot_reserve_10m/hot_reserve"));
        assert_eq!(names("all").len(), CASES.len());
    }

    #[test]
    fn names_stand_between_commas_or_spaces() {
        let two = ["hot_reserve/noop", "sold_out/noop"];
        assert_eq!(names("hot_reserve/noop,sold_out/noop"), two);
        assert_eq!(names(" sold_out/noop  hot_reserve/noop, "), two);
        assert_eq!(names("hot_reserve_10m/hot_reserve").len(), 1);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = chosen("sold_out/noop,cold_reserve").err();
        let message = error.expect("refused").to_string();
        assert!(
            message.starts_with("there is no case 'cold_reserve'"),
            "{message}"
        );
        assert!(
            CASES.iter().all(|case| message.contains(case.name)),
            "{message}"
        );
    }
}
