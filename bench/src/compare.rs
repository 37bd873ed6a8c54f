//! Two builds compared: an older one and this one take turns at our side of a case, on the same servers.

use std::{collections::BTreeSet, fmt::Write as _, mem::swap};

use anyhow::{Context as _, ensure};

use crate::{
    bench::Bench,
    case::{Case, Side},
    number::number,
    round::{Cpu, Round},
    server::Programs,
    stats::Summary,
};

const BUILDS: [&str; 2] = ["older", "this"];
const OLDER: usize = 0;

/// The processes whose processor time is compared.
type Part = (&'static str, fn(&Cpu) -> Option<f64>);
const PARTS: [Part; 2] = [
    ("server", |cpu| cpu.server),
    ("PostgreSQL", |cpu| cpu.postgres),
];

const HEAD: &str = "Microseconds of processor time for each request that was answered as asked, event or hold: medians, \
    smallest and largest in parentheses. Ratios are taken round by round.\n\n\
    | work | of | older | this | this/older |\n|---|---|---|---|---|\n";

impl Bench {
    /// Prints the processor time of both builds. Cases with the same side of ours are compared once.
    pub(crate) async fn compare(
        &mut self,
        mut older: Programs,
        cases: &[&'static Case],
    ) -> anyhow::Result<()> {
        let mut table = HEAD.to_owned();
        let mut compared = BTreeSet::new();
        for Case { ours, .. } in cases {
            if compared.insert(ours.label) {
                let rounds = self.take_turns(&mut older, ours).await?;
                table += &rows(ours.label, &rounds)?;
            }
        }
        println!("\n{table}");
        Ok(())
    }

    async fn take_turns(
        &mut self,
        older: &mut Programs,
        side: &Side,
    ) -> anyhow::Result<[Vec<Round>; 2]> {
        ensure!(
            !side.work.has_history(),
            "{} shares a database among its rounds, so that two builds cannot take turns",
            side.label
        );
        let mut rounds = [Vec::new(), Vec::new()];
        for number in 1..=self.rounds {
            // Each is first in half of the rounds: the machine may get slower or faster all the time.
            let first = usize::from(number.is_multiple_of(2));
            for build in [first, 1 - first] {
                let name = BUILDS[build];
                let is_older = build == OLDER;
                if is_older {
                    swap(&mut self.programs, older);
                }
                let round = self.round(side).await;
                if is_older {
                    swap(&mut self.programs, older);
                }
                let round =
                    round.with_context(|| format!("{}, round {number}, {name}", side.label))?;
                println!(
                    "  round {number}/{}  {name:<6} {}",
                    self.rounds,
                    line(&round)
                );
                rounds[build].push(round);
            }
        }
        Ok(rounds)
    }
}

/// A line of progress.
fn line(round: &Round) -> String {
    let mut line = String::new();
    for part in PARTS {
        let microseconds = microseconds(part, round).unwrap_or(f64::NAN);
        // Writing into a String cannot fail.
        let _ = write!(line, "{} {microseconds:>6.2} µs   ", part.0);
    }
    line + &format!("{:>7.0} a second", round.wanted as f64 / round.seconds)
}

/// `None` if the processes are not on this machine.
fn microseconds((_, of): Part, round: &Round) -> Option<f64> {
    Some(of(&round.cpu_seconds)? * 1e6 / round.wanted as f64)
}

fn rows(label: &str, rounds: &[Vec<Round>; 2]) -> anyhow::Result<String> {
    let mut text = String::new();
    for part in PARTS {
        let figures = |rounds: &Vec<Round>| {
            let figures = rounds.iter().map(|round| microseconds(part, round));
            figures.collect::<Option<Vec<f64>>>()
        };
        let [older, this] = rounds.each_ref().map(figures);
        let (older, this) = older
            .zip(this)
            .with_context(|| format!("the {} of {label} must run on this machine", part.0))?;
        let ratio = Summary::of_ratios(&this, &older).context("no ratio")?;
        let side = |figures: &[f64]| {
            let Summary { median, min, max } = Summary::of(figures).context("no rounds")?;
            let (median, min, max) = (number(median), number(min), number(max));
            anyhow::Ok(format!("{median} ({min}–{max})"))
        };
        let _ = writeln!(
            text,
            "| {label} | {} | {} | {} | **{:.3}** ({:.3}–{:.3}) |",
            part.0,
            side(&older)?,
            side(&this)?,
            ratio.median,
            ratio.min,
            ratio.max
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(server: f64) -> Round {
        Round {
            wanted: 1_000_000,
            seconds: 50.0,
            cpu_seconds: Cpu {
                server: Some(server),
                postgres: Some(10.0),
                ..Cpu::default()
            },
            ..Round::default()
        }
    }

    #[test]
    fn both_builds_stand_beside_each_other_with_their_ratio() {
        let older = vec![round(20.0), round(40.0), round(22.0)];
        // The second round was slow for both.
        let this = vec![round(21.0), round(42.0), round(22.0)];
        let text = rows("hot_reserve", &[older, this]).expect("figures");
        assert_eq!(
            text,
            "| hot_reserve | server | 22.0 (20.0–40.0) | 22.0 (21.0–42.0) | **1.050** (1.000–1.050) |\n\
             | hot_reserve | PostgreSQL | 10.0 (10.0–10.0) | 10.0 (10.0–10.0) | **1.000** (1.000–1.000) |\n"
        );
    }

    #[test]
    fn without_processor_time_there_is_no_figure() {
        let elsewhere = || vec![Round::default()];
        assert!(rows("hot_reserve", &[elsewhere(), elsewhere()]).is_err());
    }
}
