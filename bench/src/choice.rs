//! The selection of cases, their requirements and their duration.

use std::time::Duration;

use anyhow::{bail, ensure};

use crate::{
    case::{Case, Standby, Work},
    cases, neighbour,
    snapshot::AGE_SECONDS,
};

/// Other open files of a process, beside connections to clients.
const OTHER_FILES: u32 = 100;

/// The selected cases: names separated by commas or spaces, `production` for those with production settings, `all`,
/// or nothing for the default ones.
pub(crate) fn chosen(names: &str) -> anyhow::Result<Vec<&'static Case>> {
    let names: Vec<&str> = names
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|name| !name.is_empty())
        .collect();
    for name in &names {
        let is_group = ["all", "production"].contains(name);
        if !is_group && !cases::all().any(|case| case.name == *name) {
            let known: Vec<&str> = cases::all().map(|case| case.name).collect();
            bail!(
                "there is no case '{name}'. There are: {}; 'production' and 'all'",
                known.join(", ")
            );
        }
    }
    Ok(cases::all()
        .filter(|case| {
            names.contains(&case.name)
                || names.contains(&"all")
                || (names.contains(&"production") && cases::is_production(case))
                || (names.is_empty() && !case.only_when_named)
        })
        .collect())
}

/// The servers that the cases need, by their names in `deploy/local`. `standby` is a PostgreSQL with a synchronous
/// standby.
pub(crate) fn servers(cases: &[&Case]) -> Vec<&'static str> {
    let mut servers = vec!["postgres", "redis"];
    if needs(cases, |work| matches!(work, Work::Events(_))) {
        servers.push("rabbitmq");
    }
    if needs_standby(cases) {
        servers.push("standby");
    }
    servers
}

pub(crate) fn needs_standby(cases: &[&Case]) -> bool {
    needs(cases, |work| work.standby() != Standby::None)
}

/// Refuses cases with more connections than a process may have open files. Otherwise they would fail in the middle of
/// a run, or measure something else.
pub(crate) fn check_open_files(
    cases: &[&Case],
    connections: u32,
    limit: Option<u64>,
) -> anyhow::Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    for case in cases {
        for side in case.sides() {
            let needed = side.work.clients().connections(connections) + OTHER_FILES;
            ensure!(
                u64::from(needed) <= limit,
                "{} needs {needed} open files in one process, and the limit is {limit}. Raise it with 'ulimit -n {needed}', \
                for which the hard limit ('ulimit -Hn') has to allow it, or name other cases in CASES",
                case.name
            );
        }
    }
    Ok(())
}

/// Estimated duration of the cases. Each round also starts its processes and warms them up.
pub(crate) fn about(cases: &[&Case], rounds: u32, seconds: u32) -> Duration {
    let mut all = 0;
    for (position, case) in cases.iter().enumerate() {
        let runs = !cases[..position]
            .iter()
            .any(|earlier| case.repeats(earlier));
        if runs {
            let each_round: u32 = case.sides().map(|side| about_one(side.work, seconds)).sum();
            all += rounds * each_round;
        }
    }
    if needs(cases, Work::has_history) {
        all += 180;
    }
    if needs_standby(cases) {
        all += 10;
    }
    // A few cases with hundreds of rounds of minutes: far below the limit.
    Duration::from_secs(all.into())
}

fn about_one(work: Work, seconds: u32) -> u32 {
    match work {
        // A table that aged for minutes also takes longer to check.
        Work::Reserves(_) if work.has_held_snapshot() => AGE_SECONDS + seconds + 15,
        Work::Reserves(_) | Work::Reads(_) => seconds + 3,
        Work::Events(_) => seconds + 4,
        Work::Expiry(_) => 10,
        Work::Neighbour(_) => seconds.max(neighbour::LEAST_SECONDS) + 3,
    }
}

fn needs(cases: &[&Case], need: impl Fn(Work) -> bool + Copy) -> bool {
    cases.iter().any(|case| case.needs(need))
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
        assert_eq!(names("").len(), cases::all().count() - 2);
        for slow in ["hot_reserve_10m/hot_reserve", "held_snapshot/hot_reserve"] {
            assert!(!names(" ").contains(&slow), "{slow}");
        }
        assert_eq!(names("all").len(), cases::all().count());
    }

    #[test]
    fn production_means_all_cases_with_its_settings() {
        let expected = [
            "held_snapshot/hot_reserve",
            "two_copies/hot_reserve",
            "four_copies/hot_reserve",
            "two_copies_sync/hot_reserve_sync",
            "sync_standby/hot_reserve",
            "keyed/hot_reserve",
            "api_keys/hot_reserve",
            "connections_4000/hot_reserve",
            "lone_postgres_us",
            "neighbour_p99_ms",
        ];
        assert_eq!(names("production"), expected);
        assert_eq!(names("production sold_out/noop").len(), expected.len() + 1);
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
            cases::all().all(|case| message.contains(case.name)),
            "{message}"
        );
    }

    #[test]
    fn a_server_is_wanted_only_by_cases_that_need_it() {
        let servers = |asked| servers(&chosen(asked).expect("known names"));
        assert_eq!(servers("hot_reserve/noop"), ["postgres", "redis"]);
        assert_eq!(servers("storm/bare_expire"), ["postgres", "redis"]);
        assert_eq!(servers("event_p50_ms"), ["postgres", "redis", "rabbitmq"]);
        assert_eq!(servers("two_copies/hot_reserve"), ["postgres", "redis"]);
        for with_standby in [
            "sync_standby/hot_reserve",
            "two_copies_sync/hot_reserve_sync",
        ] {
            assert_eq!(servers(with_standby), ["postgres", "redis", "standby"]);
        }
    }

    #[test]
    fn open_files_are_counted_only_for_what_is_chosen() {
        let check = |asked: &str, connections, limit| {
            check_open_files(&chosen(asked).expect("known names"), connections, limit)
        };
        let many = "connections_4000/hot_reserve";
        assert!(check(many, 256, Some(4_100)).is_ok());
        let error = check(many, 256, Some(4_099)).expect_err("too few");
        assert!(error.to_string().contains("ulimit -n 4100"), "{error}");
        assert!(check("hot_reserve/noop", 256, Some(1_024)).is_ok());
        assert!(check("hot_reserve/noop", 1_024, Some(1_024)).is_err());
        assert!(check(many, 256, None).is_ok(), "no limit");
    }

    #[test]
    fn rows_that_share_their_rounds_take_no_time() {
        let about = |asked| about(&chosen(asked).expect("known names"), 3, 5).as_secs();
        let alone = about("hot_reserve/noop");
        assert_eq!(alone, 3 * 2 * 8);
        assert_eq!(about("hot_reserve/noop hot_reserve_cpu/noop_cpu"), alone);
        assert_eq!(about("hot_reserve_postgres_us"), alone / 2);
        let aged = about("held_snapshot/hot_reserve");
        assert!(aged > 3 * u64::from(AGE_SECONDS), "{aged}");
    }
}
