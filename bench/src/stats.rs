//! Medians, and the comparison with goals.

use std::time::Duration;

use serde::Serialize;

/// The median of several figures, and their range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// `None` without figures, or if a figure is not a number.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        if !(min.is_finite() && max.is_finite()) {
            return None;
        }
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }

    /// Of the ratios per round: a slow phase of the machine affects both sides of a round.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        Self::of(&ratios)
    }
}

/// Latencies of single requests or events.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Latency {
    /// `None` without times.
    pub(crate) fn of(times: &[Duration]) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort();
        // The smallest time that is not exceeded by this percentage of all times.
        let percentile = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            Some(sorted.get(rank.checked_sub(1)?)?.as_secs_f64() * 1e3)
        };
        Some(Self {
            p50_ms: percentile(50)?,
            p99_ms: percentile(99)?,
        })
    }
}

/// The goal of a figure.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) floor: f64,
    pub(crate) goal: f64,
    pub(crate) better: Better,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    MetGoal,
    MetFloor,
    BelowFloor,
}

impl Goal {
    pub(crate) const fn at_least(floor: f64, goal: f64) -> Self {
        let better = Better::Higher;
        Self {
            floor,
            goal,
            better,
        }
    }

    pub(crate) const fn at_most(floor: f64, goal: f64) -> Self {
        let better = Better::Lower;
        Self {
            floor,
            goal,
            better,
        }
    }

    pub(crate) fn verdict(self, figure: f64) -> Verdict {
        let meets = |bound: f64| match self.better {
            Better::Higher => figure >= bound,
            Better::Lower => figure <= bound,
        };
        if meets(self.goal) {
            Verdict::MetGoal
        } else if meets(self.floor) {
            Verdict::MetFloor
        } else {
            Verdict::BelowFloor
        }
    }

    /// The figure relative to the goal. 1 meets the goal, and more is better.
    pub(crate) fn score(self, figure: f64) -> f64 {
        match self.better {
            Better::Higher => figure / self.goal,
            Better::Lower => self.goal / figure,
        }
    }
}

impl Verdict {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::MetGoal => "met goal",
            Self::MetFloor => "met floor",
            Self::BelowFloor => "below floor",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        let summary = |median, min, max| Some(Summary { median, min, max });
        assert_eq!(Summary::of(&[3.0, 1.0, 20.0]), summary(3.0, 1.0, 20.0));
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 9.0]), summary(3.0, 1.0, 9.0));
        assert_eq!(Summary::of(&[7.0]), summary(7.0, 7.0, 7.0));
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let latency = |p50_ms, p99_ms| Some(Latency { p50_ms, p99_ms });
        assert_eq!(Latency::of(&times), latency(100.0, 198.0));
        assert_eq!(Latency::of(&times[199..]), latency(1.0, 1.0));
        assert_eq!(Latency::of(&[]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The second round was slow for both sides. The ratio of the medians would be 0.2.
        let ratios = Summary::of_ratios(&[10.0, 4.0, 9.0], &[20.0, 8.0, 45.0]);
        assert_eq!(ratios.map(|ratios| ratios.median), Some(0.5));
        assert_eq!(Summary::of_ratios(&[1.0], &[0.0]), None);
    }

    #[test]
    fn a_bound_is_met_by_what_equals_it() {
        let more = Goal::at_least(0.38, 0.5);
        assert_eq!(more.verdict(0.5), Verdict::MetGoal);
        assert_eq!(more.verdict(0.38), Verdict::MetFloor);
        assert_eq!(more.verdict(0.379), Verdict::BelowFloor);
        let less = Goal::at_most(1.3, 1.0);
        assert_eq!(less.verdict(1.0), Verdict::MetGoal);
        assert_eq!(less.verdict(1.3), Verdict::MetFloor);
        assert_eq!(less.verdict(1.31), Verdict::BelowFloor);
        assert!(less.score(0.5) > less.score(1.0));
    }
}
