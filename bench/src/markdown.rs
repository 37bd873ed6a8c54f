//! The report as Markdown tables.

use std::fmt::Write as _;

use crate::{
    machine,
    number::{bound, number},
    outcome::{Measured, Outcome},
    report::{Report, Settings},
    round::{Cpu, Round},
    stats::Summary,
};

pub(crate) fn markdown(report: &Report) -> String {
    let Settings {
        seconds_per_round,
        rounds,
        connections,
        api_options,
        postgres,
        ..
    } = &report.settings;
    let mut text = format!(
        "# Benchmark\n\nMade on {} at commit {}, on one machine for servers and load: {}; PostgreSQL {postgres}.\n\n\
        Medians of {rounds} alternating rounds of {seconds_per_round} s, {connections} connections where a case says \
        nothing else (one for a lone request), smallest and largest in parentheses. Only the answers that were asked for \
        are counted. After every round nothing was oversold and the audit was clean.\n\n",
        report.day(),
        commit_words(&report.commit),
        report.machine.words()
    );
    if !api_options.is_empty() {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "The API ran with `{api_options}`.\n");
    }
    text + &table(report) + "\n" + &processor_table(report)
}

/// With uncommitted changes, the figures do not belong to the commit.
fn commit_words(commit: &str) -> String {
    match commit.strip_suffix(machine::DIRTY) {
        Some(commit) => format!("{commit} **with changes that were not committed**"),
        None => commit.to_owned(),
    }
}

/// Ratios, goals, and the figures of the ratios.
pub(crate) fn table(report: &Report) -> String {
    let mut text = String::from(
        "| case | ratio | floor | goal | verdict | ours | theirs |\n|---|---|---|---|---|---|---|\n",
    );
    for outcome in &report.outcomes {
        let Outcome {
            case,
            goal,
            ratio,
            verdict,
            ours,
            theirs,
            ..
        } = outcome;
        let side = |side: &Measured| {
            let of = side.summary;
            let (median, min, max) = (number(of.median), number(of.min), number(of.max));
            format!("{median} {} ({min}–{max})", side.unit)
        };
        let _ = writeln!(
            text,
            "| {} | **{}** ({}–{}) | {} | {} | {} | {} | {} |",
            case.name,
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

/// CPU time by process: where optimization is worthwhile. Rounds shared by several cases are listed once.
fn processor_table(report: &Report) -> String {
    let mut text = format!(
        "## Processor time\n\nMicroseconds for each request that was answered as asked, event or hold, medians; \
        {0} cores have {0} million a second.\n\n\
        | case | side | server | PostgreSQL | Redis | RabbitMQ | wrk | requests a batch |\n\
        |---|---|---|---|---|---|---|---|\n",
        report.machine.cores
    );
    let own_rounds = |outcome: &&Outcome| outcome.same_rounds_as.is_none();
    for outcome in report.outcomes.iter().filter(own_rounds) {
        let sides = [&outcome.ours].into_iter().chain(&outcome.theirs);
        for side in sides.filter(|side| !side.rounds.is_empty()) {
            text += &processor_row(outcome.case.name, side);
        }
    }
    text
}

fn processor_row(case: &str, side: &Measured) -> String {
    let median = |of: &dyn Fn(&Round) -> Option<f64>| {
        let figures: Option<Vec<f64>> = side.rounds.iter().map(of).collect();
        figures
            .and_then(|figures| Summary::of(&figures))
            .map_or("–".to_owned(), |summary| number(summary.median))
    };
    let time = |of: fn(&Cpu) -> Option<f64>| {
        median(&|round| Some(of(&round.cpu_seconds)? * 1e6 / round.wanted as f64))
    };
    format!(
        "| {case} | {} | {} | {} | {} | {} | {} | {} |\n",
        side.label,
        time(|cpu| cpu.server),
        time(|cpu| cpu.postgres),
        time(|cpu| cpu.redis),
        time(|cpu| cpu.rabbitmq),
        time(|cpu| cpu.wrk),
        median(&|round| Some(round.load.as_ref()?.batches.as_ref()?.mean_requests)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::sample;

    #[test]
    fn the_table_says_what_was_asked_and_what_came() {
        let text = markdown(&sample(&[1.0, 0.84, 0.1]));
        for part in [
            "1970-01-01 at commit abc1234, on one machine",
            "Abacus <3>, 2 cores, 24 GiB, Linux 6.1; PostgreSQL 15.14",
            "| hot_reserve/noop | **0.500** (0.450–0.550) | ≥ 0.42 | ≥ 0.5 | met goal | 16,000 requests/s (14,400–17,600) |",
            "| hot_reserve/redis_gate | **0.840** (0.756–0.924) | ≥ 0.7 | ≥ 1 | met floor |",
            "| hot_reserve/textbook | **3.50** (3.15–3.85) | ≥ 27 | ≥ 35 | below floor |",
            "| ≤ 1 | ≤ 0.8 |",
            "| hot_reserve/noop | hot_reserve | 50.0 | 25.0 | – | – | 20.0 | – |",
            "| lone_postgres_us |",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn figures_of_another_unit_have_it_beside_them() {
        let text = table(&sample(&[1.0]));
        let row = text
            .lines()
            .find(|line| line.starts_with("| neighbour_p99_ms |"))
            .expect("its row");
        assert!(row.contains("16,000 ms p99"), "{row}");
        assert!(row.contains("33,000 ms p50"), "{row}");
    }

    #[test]
    fn rounds_that_are_shared_stand_once_in_the_table_of_processor_time() {
        let mut report = sample(&[1.0]);
        let rows = |report: &Report| {
            let text = processor_table(report);
            text.matches("| hot_reserve_cpu/noop_cpu |").count()
        };
        assert_eq!(rows(&report), 2);
        for outcome in &mut report.outcomes {
            if outcome.case.name == "hot_reserve_cpu/noop_cpu" {
                outcome.same_rounds_as = Some("hot_reserve/noop");
            }
        }
        assert_eq!(rows(&report), 0);
    }

    #[test]
    fn a_tree_that_differs_from_its_commit_is_told() {
        assert_eq!(commit_words("abc1234"), "abc1234");
        let dirty = commit_words("abc1234-dirty");
        assert_eq!(dirty, "abc1234 **with changes that were not committed**");
    }
}
