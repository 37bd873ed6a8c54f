//! The longer time ranges of the chart: means of the polls of each step, with bounded memory.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Serialize;

/// Rates at one time: reserved, confirmed, refused, failed. `None` is not known.
pub(crate) type Point = [Option<f64>; 4];

/// What a trend does when it has its maximum number of points.
#[derive(Clone, Copy, Debug)]
enum WhenFull {
    /// Forgets the oldest point.
    Forget,
    /// Makes one point of two, and the step twice as long.
    Halve,
}

/// Rates per second, as means. Null means not known.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Trend {
    /// Time between two points, in seconds.
    step_seconds: u32,
    /// The end of each step, as a Unix time in seconds.
    at: VecDeque<f64>,
    reserved: VecDeque<Option<f64>>,
    confirmed: VecDeque<Option<f64>>,
    refused: VecDeque<Option<f64>>,
    failed: VecDeque<Option<f64>>,
    #[serde(skip)]
    max: usize,
    #[serde(skip)]
    when_full: WhenFull,
    #[serde(skip)]
    open: Option<Step>,
    /// The last time with a request.
    #[serde(skip)]
    active_at: Option<f64>,
}

/// The mean of one step so far.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The step's start, divided by its length.
    number: u64,
    /// For each rate, the weighted sum of the known values, and the sum of their weights.
    sums: [(f64, f64); 4],
}

impl Step {
    fn new(number: u64) -> Self {
        Self {
            number,
            sums: [(0.0, 0.0); 4],
        }
    }

    fn add(&mut self, point: Point, weight: f64) {
        for ((sum, weights), value) in self.sums.iter_mut().zip(point) {
            if let Some(value) = value {
                *sum += weight * value;
                *weights += weight;
            }
        }
    }

    fn mean(&self) -> Point {
        self.sums
            .map(|(sum, weights)| (weights > 0.0).then(|| sum / weights))
    }
}

/// Time between two points of a new trend, in seconds.
const STEP_SECONDS: u32 = 10;

/// A sale begins with the first request after a pause of this length, in seconds.
const PAUSE_SECONDS: f64 = 6.0 * 3600.0;

impl Trend {
    /// The last hour.
    pub(crate) fn of_an_hour() -> Self {
        Self::new(360, WhenFull::Forget)
    }

    /// All of a sale. Each point stands for 10 s in the first two hours, then for 20 s, after four hours for 40 s, and so
    /// on.
    pub(crate) fn of_the_sale() -> Self {
        Self::new(720, WhenFull::Halve)
    }

    fn new(max: usize, when_full: WhenFull) -> Self {
        Self {
            step_seconds: STEP_SECONDS,
            at: VecDeque::new(),
            reserved: VecDeque::new(),
            confirmed: VecDeque::new(),
            refused: VecDeque::new(),
            failed: VecDeque::new(),
            max,
            when_full,
            open: None,
            active_at: None,
        }
    }

    /// Adds the rates of a poll at this Unix time.
    pub(crate) fn push(&mut self, at: f64, point: Point) {
        // A clock that is set back also starts a trend again, because its times must increase.
        let backwards = self.open.is_some_and(|open| self.number(at) < open.number);
        let begins = self.begins(at, point) && matches!(self.when_full, WhenFull::Halve);
        if backwards || begins {
            *self = Self {
                active_at: self.active_at,
                ..Self::new(self.max, self.when_full)
            };
        }
        let number = self.number(at);
        if let Some(open) = self.open.take_if(|open| open.number != number) {
            self.append(&open);
            if number > open.number + 1 {
                // Nothing is known of the steps between, so no line may be drawn over them.
                self.append(&Step::new(open.number + 1));
            }
            while self.at.len() > self.max {
                match self.when_full {
                    WhenFull::Forget => self.forget(),
                    WhenFull::Halve => self.halve(at),
                }
            }
        }
        let number = self.number(at);
        let open = self.open.get_or_insert_with(|| Step::new(number));
        open.add(point, 1.0);
    }

    /// Whether a sale begins with this poll.
    fn begins(&mut self, at: f64, point: Point) -> bool {
        if !point.into_iter().flatten().any(|rate| rate > 0.0) {
            return false;
        }
        let last = self.active_at.replace(at);
        last.is_none_or(|last| at - last > PAUSE_SECONDS)
    }

    fn number(&self, at: f64) -> u64 {
        // A time before 1970 saturates.
        (at / f64::from(self.step_seconds)) as u64
    }

    fn append(&mut self, step: &Step) {
        let end = (step.number + 1) as f64 * f64::from(self.step_seconds);
        self.at.push_back(end);
        for (series, value) in self.series().into_iter().zip(step.mean()) {
            series.push_back(value);
        }
    }

    fn forget(&mut self) {
        self.at.pop_front();
        for series in self.series() {
            series.pop_front();
        }
    }

    /// Doubles the length of the steps. A long step that is not over `now` stays open.
    fn halve(&mut self, now: f64) {
        let short = f64::from(self.step_seconds);
        let mut longer = Self::new(self.max, self.when_full);
        longer.step_seconds = 2 * self.step_seconds;
        longer.active_at = self.active_at;
        for index in 0..self.at.len() {
            // The middle of the short step is within one long step.
            let number = longer.number(self.at[index] - short / 2.0);
            if let Some(over) = longer.open.take_if(|open| open.number != number) {
                longer.append(&over);
            }
            let open = longer.open.get_or_insert_with(|| Step::new(number));
            let series = [&self.reserved, &self.confirmed, &self.refused, &self.failed];
            open.add(series.map(|series| series[index]), short);
        }
        let number = longer.number(now);
        if let Some(over) = longer.open.take_if(|open| open.number != number) {
            longer.append(&over);
        }
        *self = longer;
    }

    fn series(&mut self) -> [&mut VecDeque<Option<f64>>; 4] {
        [
            &mut self.reserved,
            &mut self.confirmed,
            &mut self.refused,
            &mut self.failed,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000_000;

    /// One poll per second. The rate of reserves is the number of the poll, and nothing else is known.
    fn polled(mut trend: Trend, seconds: u64) -> Trend {
        for second in 0..seconds {
            let rate = Some(second as f64 + 1.0);
            trend.push((START + second) as f64, [rate, None, None, None]);
        }
        trend
    }

    fn ends(trend: &Trend) -> Vec<u64> {
        trend.at.iter().map(|at| *at as u64 - START).collect()
    }

    #[test]
    fn each_point_is_the_mean_of_its_step() {
        let trend = polled(Trend::of_an_hour(), 31);
        assert_eq!(ends(&trend), [10, 20, 30]);
        assert_eq!(trend.reserved, [Some(5.5), Some(15.5), Some(25.5)]);
        assert_eq!(trend.failed, [None; 3]);
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let trend = polled(Trend::of_an_hour(), 8001);
        assert_eq!(trend.at.len(), 360);
        assert_eq!(ends(&trend)[0], 8000 - 3590);
        assert_eq!(trend.reserved.len(), 360);
    }

    #[test]
    fn all_of_a_long_sale_is_kept_in_longer_steps() {
        for (seconds, step) in [(7201, 10), (7300, 20), (14_500, 40), (100_000, 160)] {
            let trend = polled(Trend::of_the_sale(), seconds);
            assert_eq!(trend.step_seconds, step, "{seconds}");
            assert!((360..=720).contains(&trend.at.len()), "{seconds}");
            let ends = ends(&trend);
            let step = u64::from(step);
            let expected: Vec<_> = (1..=ends.len() as u64).map(|n| n * step).collect();
            assert_eq!(ends, expected, "{seconds}");
            assert!(seconds - expected[expected.len() - 1] <= step, "{seconds}");
            // The mean of the seconds in each step, also in one that was open while the steps became longer.
            for (end, mean) in ends.iter().zip(&trend.reserved) {
                let expected = *end as f64 - (step as f64 - 1.0) / 2.0;
                let mean = mean.expect("a mean");
                assert!((mean - expected).abs() < 1e-6, "{seconds}: {mean} at {end}");
            }
        }
    }

    #[test]
    fn a_time_without_polls_is_a_gap_and_a_clock_that_is_set_back_starts_again() {
        let mut trend = polled(Trend::of_the_sale(), 10);
        trend.push((START + 100) as f64, [Some(7.0); 4]);
        assert_eq!(ends(&trend), [10, 20]);
        assert_eq!(trend.reserved, [Some(5.5), None]);
        trend.push((START + 5) as f64, [Some(7.0); 4]);
        trend.push((START + 15) as f64, [Some(8.0); 4]);
        assert_eq!(ends(&trend), [10]);
        assert_eq!(trend.reserved, [Some(7.0)]);
    }

    #[test]
    fn a_sale_begins_with_the_first_request_and_with_the_first_one_after_six_hours() {
        let mut trend = Trend::of_the_sale();
        let mut poll = |second: u64, rate| {
            trend.push((START + second) as f64, [Some(rate), None, None, None]);
            ends(&trend)
        };
        for (second, rate) in [
            (0, 0.0),
            (10, 0.0),
            (20, 0.0),
            (30, 7.0),
            (40, 7.0),
            (50, 0.0),
        ] {
            poll(second, rate);
        }
        assert_eq!(poll(21_640, 0.0), [40, 50, 60, 70]);
        poll(21_650, 7.0);
        assert_eq!(poll(21_660, 0.0), [21_660]);
    }
}
