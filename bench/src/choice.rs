//! Which cases run, what they need, and how long they take.

use std::time::Duration;

use anyhow::bail;

use crate::cases::{CASES, Case, Work};

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

/// The servers that the cases run on, by their names in `deploy/local`.
pub(crate) fn servers(cases: &[&Case]) -> Vec<&'static str> {
    let mut servers = vec!["postgres", "redis"];
    if cases
        .iter()
        .any(|case| case.needs(|work| matches!(work, Work::Events(_))))
    {
        servers.push("rabbitmq");
    }
    servers
}

/// How long the cases take. Beside what is timed, each round starts its processes and warms them up.
pub(crate) fn about(cases: &[&Case], rounds: u32, seconds: u32) -> Duration {
    let preparing: u32 = cases
        .iter()
        .map(|case| if case.only_when_named { 180 } else { 0 })
        .sum();
    let each_round: u32 = cases
        .iter()
        .flat_map(|case| case.sides())
        .map(|side| match side.work {
            Work::Reserves(_) => seconds + 3,
            Work::Events(_) => seconds + 4,
            Work::Expiry(_) => 10,
        })
        .sum();
    // A handful of cases, hundreds of rounds, minutes each at most: far below the limit.
    Duration::from_secs((rounds * each_round + preparing).into())
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

    #[test]
    fn rabbitmq_is_wanted_only_by_cases_with_events() {
        let servers = |asked| servers(&chosen(asked).expect("known names"));
        assert_eq!(servers("hot_reserve/noop"), ["postgres", "redis"]);
        assert_eq!(servers("storm/bare_expire"), ["postgres", "redis"]);
        assert_eq!(servers("event_p50_ms"), ["postgres", "redis", "rabbitmq"]);
    }
}
