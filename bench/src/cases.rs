//! The cases: what is compared, and the goals.

mod goals;
mod production;

use crate::case::Case;

/// Every case, in the order of execution.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    goals::CASES.iter().chain(production::CASES)
}

/// Whether the case compares production settings with the defaults.
pub(crate) fn is_production(case: &Case) -> bool {
    production::CASES
        .iter()
        .any(|other| other.name == case.name)
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
