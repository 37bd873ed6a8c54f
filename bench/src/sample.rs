//! A sample report for tests.

use time::OffsetDateTime;

use crate::{
    case::{Figure, Theirs},
    cases,
    load::Seen,
    machine::Machine,
    metrics::Answers,
    outcome::{Measured, Outcome},
    report::{Report, Settings},
    round::{Cpu, Load, Round},
    stats::{Better, Latency, Summary},
};

/// A report of all cases, with these ratios divided by their goals.
pub(crate) fn sample(parts_of_goal: &[f64]) -> Report {
    let outcomes = cases::all()
        .zip(parts_of_goal.iter().cycle())
        .map(|(case, part)| {
            let ratio = match case.goal.better {
                Better::Higher => case.goal.goal * part,
                Better::Lower => case.goal.goal / part,
            };
            Outcome {
                case,
                goal: case.goal,
                ratio: spread(ratio),
                verdict: case.goal.verdict(ratio),
                unit: case.figure.unit(),
                ours: measured(case.ours.label, case.figure, 16_000.0 * part),
                theirs: match &case.theirs {
                    Theirs::Nothing => None,
                    Theirs::Side(side) => Some(measured(side.label, case.figure, 33_000.0)),
                    Theirs::SameRounds(label, figure) => Some(Measured {
                        rounds: Vec::new(),
                        ..measured(label, *figure, 33_000.0)
                    }),
                },
                same_rounds_as: None,
            }
        });
    Report {
        date: OffsetDateTime::UNIX_EPOCH,
        machine: Machine {
            processor: "Abacus <3>".to_owned(),
            cores: 2,
            memory_gib: 24,
            kernel: "6.1".to_owned(),
        },
        commit: "abc1234".to_owned(),
        settings: Settings {
            seconds_per_round: 5,
            rounds: 1,
            connections: 256,
            api_options: String::new(),
            textbook_pool: None,
            postgres: "15.14".to_owned(),
        },
        outcomes: outcomes.collect(),
    }
}

fn spread(median: f64) -> Summary {
    let (min, max) = (median * 0.9, median * 1.1);
    Summary { median, min, max }
}

fn measured(label: &'static str, figure: Figure, median: f64) -> Measured {
    let latency = Latency {
        p50_ms: 15.0,
        p99_ms: 30.0,
    };
    let wrk = Seen {
        requests: 80_000,
        refused: 0,
        socket_errors: 0,
        seconds: 5.0,
        latency,
        cpu_seconds: 1.6,
    };
    let round = Round {
        wanted: 80_000,
        seconds: 5.0,
        latency: Some(latency),
        quiet: None,
        cpu_seconds: Cpu {
            server: Some(4.0),
            postgres: Some(2.0),
            wrk: Some(1.6),
            ..Cpu::default()
        },
        load: Some(Load {
            answers: Answers {
                created: 80_000,
                ..Answers::default()
            },
            wrk,
            batches: None,
            apart: 0,
        }),
    };
    Measured {
        label,
        unit: figure.unit(),
        summary: spread(median),
        rounds: vec![round],
    }
}
