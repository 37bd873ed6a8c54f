//! The result of a case: its figures, compared with its goal.

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    case::{Case, Figure, Side, Theirs},
    round::{Load, Round},
    stats::{Goal, Latency, Summary, Verdict},
};

/// The result of a case.
#[derive(Serialize)]
pub(crate) struct Outcome {
    #[serde(skip)]
    pub(crate) case: &'static Case,
    #[serde(flatten)]
    pub(crate) goal: Goal,
    /// Ours divided by theirs. Ours alone if there is no other side.
    pub(crate) ratio: Summary,
    pub(crate) verdict: Verdict,
    pub(crate) unit: &'static str,
    pub(crate) ours: Measured,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) theirs: Option<Measured>,
    /// The earlier case whose rounds these are. Nothing ran for this case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) same_rounds_as: Option<&'static str>,
}

/// The result of one side of a case.
#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) label: &'static str,
    pub(crate) unit: &'static str,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Empty if the figures come from the other side's rounds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rounds: Vec<Round>,
}

/// The rounds of one side.
pub(crate) struct Turns {
    pub(crate) label: &'static str,
    pub(crate) rounds: Vec<Round>,
}

impl Outcome {
    /// Computed from the rounds of all its sides.
    pub(crate) fn of(case: &'static Case, turns: &[Turns]) -> anyhow::Result<Self> {
        let rounds_of = |side: &Side| {
            let turns = turns.iter().find(|turns| turns.label == side.label);
            let turns = turns.with_context(|| format!("{} has no rounds", side.label))?;
            anyhow::Ok(turns.rounds.clone())
        };
        let ours = rounds_of(&case.ours)?;
        let our_figures = figures(case.figure, case.ours.label, &ours)?;
        let theirs = match &case.theirs {
            Theirs::Nothing => None,
            Theirs::Side(side) => {
                let theirs = rounds_of(side)?;
                let figures = figures(case.figure, side.label, &theirs)?;
                let measured = Measured::of(side.label, case.figure, &figures, theirs)?;
                Some((measured, figures))
            }
            Theirs::SameRounds(label, figure) => {
                let figures = figures(*figure, label, &ours)?;
                let measured = Measured::of(label, *figure, &figures, Vec::new())?;
                Some((measured, figures))
            }
        };
        let ours = Measured::of(case.ours.label, case.figure, &our_figures, ours)?;
        let ratio = match &theirs {
            Some((_, their_figures)) => Summary::of_ratios(&our_figures, their_figures),
            None => Some(ours.summary),
        };
        let ratio = ratio.with_context(|| format!("{} has no ratio", case.name))?;
        Ok(Self {
            case,
            goal: case.goal,
            ratio,
            verdict: case.goal.verdict(ratio.median),
            unit: case.figure.unit(),
            ours,
            theirs: theirs.map(|(theirs, _)| theirs),
            same_rounds_as: None,
        })
    }

    /// Computed from the rounds of an earlier case with the same sides, if there was one.
    pub(crate) fn of_earlier(
        case: &'static Case,
        earlier: &[Self],
    ) -> anyhow::Result<Option<Self>> {
        let Some(earlier) = earlier.iter().find(|earlier| case.repeats(earlier.case)) else {
            return Ok(None);
        };
        let turns: Vec<Turns> = [&earlier.ours]
            .into_iter()
            .chain(&earlier.theirs)
            .map(|measured| Turns {
                label: measured.label,
                rounds: measured.rounds.clone(),
            })
            .collect();
        Ok(Some(Self {
            same_rounds_as: Some(earlier.same_rounds_as.unwrap_or(earlier.case.name)),
            ..Self::of(case, &turns)?
        }))
    }
}

impl Measured {
    fn of(
        label: &'static str,
        figure: Figure,
        figures: &[f64],
        rounds: Vec<Round>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            label,
            unit: figure.unit(),
            summary: Summary::of(figures).context("no rounds")?,
            rounds,
        })
    }
}

fn figures(figure: Figure, label: &str, rounds: &[Round]) -> anyhow::Result<Vec<f64>> {
    let figures: Option<Vec<f64>> = rounds.iter().map(|round| round.figure(figure)).collect();
    figures.with_context(|| {
        let unit = figure.unit();
        format!("{label} has no figure in {unit}: the processes must run on this machine")
    })
}

/// A line of progress.
pub(crate) fn line(side: &Side, figure: Figure, round: &Round) -> String {
    let mut line = format!("{:<16}", side.label);
    line += &match figure {
        Figure::PerSecond(unit) => {
            format!(" {:>8.0} {unit}", round.wanted as f64 / round.seconds)
        }
        Figure::PostgresMicroseconds | Figure::ProcessorMicroseconds => {
            let microseconds = round.figure(figure).unwrap_or(f64::NAN);
            format!(" {microseconds:>8.1} {}", figure.unit())
        }
        Figure::P50 | Figure::P99 | Figure::QuietP99 | Figure::Seconds => {
            format!(" {:>8.3} s", round.seconds)
        }
    };
    if let Some(Latency { p50_ms, p99_ms }) = round.latency {
        line += &format!("   p50 {p50_ms:>7.2} ms   p99 {p99_ms:>7.2} ms");
    }
    if let Some(Latency { p50_ms, p99_ms }) = round.quiet {
        line += &format!("   quiet: p50 {p50_ms:.2} ms   p99 {p99_ms:.2} ms");
    }
    line + &round.load.as_ref().map(Load::words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases, round::Cpu};

    fn case(name: &str) -> &'static Case {
        cases::all()
            .find(|case| case.name == name)
            .expect("a known case")
    }

    /// 60 µs of CPU time for each of 1,000 requests, 10 µs of it in PostgreSQL.
    fn round(seconds: f64) -> Round {
        Round {
            wanted: 1_000,
            seconds,
            cpu_seconds: Cpu {
                server: Some(0.03),
                postgres: Some(0.01),
                redis: Some(0.01),
                rabbitmq: None,
                wrk: Some(0.01),
            },
            ..Round::default()
        }
    }

    fn turns(label: &'static str, rounds: &[Round]) -> Turns {
        Turns {
            label,
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn rows_with_the_same_sides_share_their_rounds() {
        let both = [
            turns("hot_reserve", &[round(2.0), round(4.0)]),
            turns("noop", &[round(1.0), round(1.0)]),
        ];
        let rates = Outcome::of(case("hot_reserve/noop"), &both).expect("an outcome");
        assert!((rates.ratio.median - 0.375).abs() < 1e-9);
        assert_eq!(rates.same_rounds_as, None);

        let earlier = [rates];
        let outcome = |name| Outcome::of_earlier(case(name), &earlier).expect("figures");
        let cpu = outcome("hot_reserve_cpu/noop_cpu").expect("the same sides");
        assert_eq!(cpu.same_rounds_as, Some("hot_reserve/noop"));
        assert!((cpu.ours.summary.median - 60.0).abs() < 1e-9);
        assert!((cpu.ratio.median - 1.0).abs() < 1e-9);
        let postgres = outcome("hot_reserve_postgres_us").expect("the same side");
        assert!((postgres.ratio.median - 10.0).abs() < 1e-9);
        assert!(postgres.theirs.is_none());
        assert!(outcome("hot_reserve/textbook").is_none());
    }

    #[test]
    fn a_neighbour_is_compared_with_the_hot_product_in_the_same_round() {
        let latency = |p50_ms, p99_ms| Some(Latency { p50_ms, p99_ms });
        let measured = Round {
            latency: latency(80.0, 120.0),
            quiet: latency(90.0, 160.0),
            ..round(20.0)
        };
        let turns = [turns("quiet_neighbour", &[measured])];
        let outcome = Outcome::of(case("neighbour_p99_ms"), &turns).expect("an outcome");
        assert!((outcome.ratio.median - 2.0).abs() < 1e-9);
        assert_eq!(outcome.verdict, Verdict::MetFloor);
        let theirs = outcome.theirs.expect("the hot product");
        assert!((theirs.summary.median - 80.0).abs() < 1e-9);
        assert_eq!((outcome.ours.unit, theirs.unit), ("ms p99", "ms p50"));
        assert!(theirs.rounds.is_empty(), "they stand with ours");
    }

    #[test]
    fn a_figure_that_cannot_be_had_is_an_error() {
        let elsewhere = Round {
            cpu_seconds: Cpu::default(),
            ..round(1.0)
        };
        let turns = [turns("hot_reserve", &[elsewhere])];
        assert!(Outcome::of(case("hot_reserve_postgres_us"), &turns).is_err());
    }
}
