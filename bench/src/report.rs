//! The report in its three forms: JSON for programs, a table for people, and a chart.

use std::{collections::BTreeMap, fmt::Write as _, fs, io::ErrorKind, path::Path};

use anyhow::Context as _;
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    chart,
    machine::Machine,
    rounds::{Cpu, Measured, Outcome, Round},
    stats::{Better, Goal, Summary},
};

pub(crate) struct Report {
    pub(crate) date: OffsetDateTime,
    pub(crate) machine: Machine,
    pub(crate) commit: String,
    pub(crate) settings: Settings,
    pub(crate) outcomes: Vec<Outcome>,
}

#[derive(Serialize)]
pub(crate) struct Settings {
    pub(crate) seconds_per_round: u32,
    pub(crate) rounds: u32,
    pub(crate) connections: u32,
    pub(crate) api_options: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) textbook_pool: Option<u32>,
    pub(crate) postgres: String,
}

const FILES: [&str; 3] = ["report.json", "report.md", "report.svg"];

/// Removes the report of an earlier run.
pub(crate) fn remove(folder: &Path) -> anyhow::Result<()> {
    for file in FILES {
        let path = folder.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Report {
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let texts = [self.json()?, self.markdown(), chart::svg(self)];
        for (file, text) in FILES.iter().zip(texts) {
            let path = folder.join(file);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    pub(crate) fn json(&self) -> anyhow::Result<String> {
        #[derive(Serialize)]
        struct Json<'a> {
            ratios: BTreeMap<&'a str, f64>,
            cases: BTreeMap<&'a str, &'a Outcome>,
            #[serde(with = "time::serde::rfc3339")]
            date: OffsetDateTime,
            machine: &'a Machine,
            commit: &'a str,
            settings: &'a Settings,
        }
        let ratios = self.outcomes.iter();
        let json = Json {
            ratios: ratios
                .map(|outcome| (outcome.name, outcome.ratio.median))
                .collect(),
            cases: self
                .outcomes
                .iter()
                .map(|outcome| (outcome.name, outcome))
                .collect(),
            date: self.date,
            machine: &self.machine,
            commit: &self.commit,
            settings: &self.settings,
        };
        Ok(serde_json::to_string_pretty(&json)? + "\n")
    }

    pub(crate) fn markdown(&self) -> String {
        let Settings {
            seconds_per_round,
            rounds,
            connections,
            api_options,
            postgres,
            ..
        } = &self.settings;
        let mut text = format!(
            "# Benchmark\n\nMade on {} at commit {}, on one machine for servers and load: {}; PostgreSQL {postgres}.\n\n\
            Medians of {rounds} alternating rounds of {seconds_per_round} s, {connections} connections \
            (one for a lone request), smallest and largest in parentheses. Only the answers that were asked for are \
            counted. After every round nothing was oversold and the audit was clean.\n\n",
            self.day(),
            self.commit,
            self.machine.words()
        );
        if !api_options.is_empty() {
            let _ = writeln!(text, "The API ran with `{api_options}`.\n");
        }
        text + &self.table() + "\n" + &self.processor_table()
    }

    /// Ratios, what is asked of them, and the figures that they come from.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "| case | ratio | floor | goal | verdict | ours | theirs |\n|---|---|---|---|---|---|---|\n",
        );
        for outcome in &self.outcomes {
            let Outcome {
                name,
                goal,
                ratio,
                verdict,
                unit,
                ours,
                theirs,
                ..
            } = outcome;
            let side = |side: &Measured| {
                let of = side.summary;
                let (median, min, max) = (number(of.median), number(of.min), number(of.max));
                format!("{median} {unit} ({min}–{max})")
            };
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "| {name} | **{}** ({}–{}) | {} | {} | {} | {} | {} |",
                number(ratio.median),
                number(ratio.min),
                number(ratio.max),
                bound(*goal, goal.floor),
                bound(*goal, goal.goal),
                verdict.words(),
                side(ours),
                theirs.as_ref().map_or("–".to_owned(), side)
            );
        }
        text
    }

    /// Where the time went: what is worth making faster.
    fn processor_table(&self) -> String {
        let mut text = String::from(
            "## Processor time\n\nMicroseconds for each request that was answered as asked, event or hold, medians; two \
            cores have two million a second.\n\n\
            | case | side | server | PostgreSQL | Redis | RabbitMQ | wrk | requests a batch |\n\
            |---|---|---|---|---|---|---|---|\n",
        )
        .replace("two cores have two million", &format!("{} cores have {0} million", self.machine.cores));
        for outcome in &self.outcomes {
            for side in [&outcome.ours].into_iter().chain(&outcome.theirs) {
                let median = |of: &dyn Fn(&Round) -> Option<f64>| {
                    let figures: Option<Vec<f64>> = side.rounds.iter().map(of).collect();
                    figures
                        .and_then(|figures| Summary::of(&figures))
                        .map_or("–".to_owned(), |summary| number(summary.median))
                };
                let time = |of: fn(&Cpu) -> Option<f64>| {
                    median(&|round| Some(of(&round.cpu_seconds)? * 1e6 / round.wanted as f64))
                };
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} | {} | {} | {} |",
                    outcome.name,
                    side.label,
                    time(|cpu| cpu.server),
                    time(|cpu| cpu.postgres),
                    time(|cpu| cpu.redis),
                    time(|cpu| cpu.rabbitmq),
                    time(|cpu| cpu.wrk),
                    median(&|round| Some(round.load.as_ref()?.batches.as_ref()?.mean_requests)),
                );
            }
        }
        text
    }

    pub(crate) fn day(&self) -> String {
        self.date.date().to_string()
    }
}

/// `≥ 0.38`, or `≤ 1.3` where less is better.
pub(crate) fn bound(goal: Goal, value: f64) -> String {
    let sign = match goal.better {
        Better::Higher => "≥",
        Better::Lower => "≤",
    };
    format!("{sign} {value}")
}

/// Three digits, and whole numbers in full with their thousands apart.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => thousands(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{cases::CASES, sample::sample};

    #[test]
    fn the_json_has_ratios_and_cases_by_name() {
        let json = sample(&[0.94]).json().expect("it serialises");
        let json: Value = serde_json::from_str(&json).expect("it is JSON");
        assert_eq!(json["ratios"]["hot_reserve/noop"], 0.47);
        assert_eq!(
            json["ratios"].as_object().map(|ratios| ratios.len()),
            Some(CASES.len())
        );
        let case = &json["cases"]["hot_reserve/noop"];
        assert_eq!((&case["floor"], &case["goal"]), (&0.38.into(), &0.5.into()));
        assert_eq!(case["verdict"], "met_floor");
        assert_eq!(case["ours"]["label"], "hot_reserve");
        assert_eq!(case["ours"]["rounds"][0]["answers"]["201"], 80_000);
        assert_eq!(json["date"], "1970-01-01T00:00:00Z");
        assert_eq!(json["commit"], "abc1234");
        assert_eq!(json["machine"]["cores"], 2);
    }

    #[test]
    fn the_table_says_what_was_asked_and_what_came() {
        let text = sample(&[1.0, 0.7, 0.1]).markdown();
        for part in [
            "1970-01-01 at commit abc1234",
            "| hot_reserve/noop | **0.500** (0.450–0.550) | ≥ 0.38 | ≥ 0.5 | met goal | 16,000 requests/s (14,400–17,600) |",
            "| hot_reserve/redis_gate | **0.700** (0.630–0.770) | ≥ 0.65 | ≥ 1 | met floor |",
            "| hot_reserve/textbook | **3.00** (2.70–3.30) | ≥ 20 | ≥ 30 | below floor |",
            "| ≤ 1.3 | ≤ 1 |",
            "| hot_reserve/noop | hot_reserve | 50.0 | 25.0 | – | – | 20.0 | – |",
            "| event_p50_ms | **20.0** (18.0–22.0) | ≤ 5 | ≤ 2 | below floor | 1,600 ms p50 (1,440–1,760) | – |",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn numbers_have_three_digits_or_all() {
        let texts = [0.4712, 1.0, 22.16, 318.4, 16_012.3, 1_234_567.0].map(number);
        assert_eq!(
            texts,
            ["0.471", "1.00", "22.2", "318", "16,012", "1,234,567"]
        );
    }
}
