//! The report as a chart: each case's ratio divided by its goal, so that all fit on one scale.

use std::fmt::Write as _;

use crate::{
    number::{bound, number},
    outcome::Outcome,
    report::Report,
    stats::{Summary, Verdict},
};

const WIDTH: f64 = 900.0;
const TOP: f64 = 84.0;
const ROW: f64 = 58.0;
const BAR: f64 = 20.0;
const BOTTOM: f64 = 76.0;
const LEFT: f64 = 412.0;
/// The scale goes from 0 to 1.5 times the goal.
const SCALE: f64 = 284.0 / MOST;
const MOST: f64 = 1.5;

/// Colours that work on white and black. Dark mode gets a dark card.
const STYLE: &str = "\
text { font-family: -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif; fill: #1f2328 }
.card { fill: #ffffff; stroke: #d0d7de }
.title { font-size: 17px; font-weight: 600 }
.name { font-size: 13px; font-weight: 600 }
.value { font-size: 14px; font-weight: 600 }
.small { font-size: 11px; fill: #656d76 }
.track { fill: #eaeef2 }
.goal { stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 4 3 }
.floor { stroke: #1f2328; stroke-width: 2 }
.met_goal { fill: #2da44e } .met_floor { fill: #4a90d9 } .below_floor { fill: #cf5b56 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .card { fill: #161b22; stroke: #30363d }
  .small { fill: #9198a1 }
  .track { fill: #30363d }
  .goal, .floor { stroke: #e6edf3 }
}";

pub(crate) fn svg(report: &Report) -> String {
    let rows_end = TOP + ROW * report.outcomes.len() as f64;
    let height = rows_end + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
        viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"flashsale against its comparators\">\n\
        <style>{STYLE}</style>\n\
        <rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
        WIDTH - 1.0,
        height - 1.0
    );
    text(
        &mut svg,
        "title",
        "start",
        24.0,
        34.0,
        "flashsale against its comparators, in parts of each goal",
    );
    text(
        &mut svg,
        "small",
        "start",
        24.0,
        54.0,
        "further right is better",
    );
    legend(&mut svg);
    let goal = LEFT + SCALE;
    text(&mut svg, "small", "middle", goal, TOP - 8.0, "goal");
    for (position, outcome) in report.outcomes.iter().enumerate() {
        row(&mut svg, TOP + ROW * position as f64, outcome);
    }
    let _ = writeln!(
        svg,
        r#"<line class="goal" x1="{goal}" y1="{}" x2="{goal}" y2="{}"/>"#,
        TOP - 2.0,
        rows_end - 8.0
    );
    footer(&mut svg, report, rows_end + 18.0);
    svg + "</svg>\n"
}

fn row(svg: &mut String, top: f64, outcome: &Outcome) {
    let Outcome {
        case,
        goal,
        ratio,
        verdict,
        ..
    } = outcome;
    text(svg, "name", "start", 24.0, top + 17.0, case.title);
    let figures = format!("{}: {}", case.name, figures(outcome));
    text(svg, "small", "start", 24.0, top + 34.0, &figures);
    // An absolute figure is shown as it is.
    let sign = match outcome.theirs {
        Some(_) => "×",
        None => outcome.unit,
    };
    let score = goal.score(ratio.median);
    let floor = LEFT + goal.score(goal.floor) * SCALE;
    let top_of_bar = top + 9.0;
    rect(svg, "track", top_of_bar, MOST * SCALE);
    rect(
        svg,
        class(*verdict),
        top_of_bar,
        score.clamp(0.004, MOST) * SCALE,
    );
    let _ = writeln!(
        svg,
        r#"<line class="floor" x1="{floor:.1}" y1="{:.1}" x2="{floor:.1}" y2="{:.1}"/>"#,
        top_of_bar - 3.0,
        top_of_bar + BAR + 3.0
    );
    let right = LEFT + MOST * SCALE + 14.0;
    let beyond = if score > MOST { " »" } else { "" };
    text(
        svg,
        "value",
        "start",
        right,
        top + 18.0,
        &format!("{} {sign}{beyond}", number(ratio.median)),
    );
    let asked = format!(
        "floor {}, goal {}",
        bound(*goal, goal.floor),
        bound(*goal, goal.goal)
    );
    text(svg, "small", "start", right, top + 34.0, &asked);
}

/// The figures of the ratio.
fn figures(outcome: &Outcome) -> String {
    let (ours, unit) = (&outcome.ours, outcome.unit);
    let Some(theirs) = &outcome.theirs else {
        let Summary { min, max, .. } = ours.summary;
        return format!("{} to {} {unit}", number(min), number(max));
    };
    let (our_median, their_median) = (number(ours.summary.median), number(theirs.summary.median));
    if ours.unit == theirs.unit {
        format!("{our_median} against {their_median} {unit}")
    } else {
        format!("{our_median} {unit} against {their_median} {}", theirs.unit)
    }
}

fn legend(svg: &mut String) {
    let mut x = LEFT + 60.0;
    for verdict in [Verdict::MetGoal, Verdict::MetFloor, Verdict::BelowFloor] {
        let _ = writeln!(
            svg,
            r#"<rect class="{}" x="{x}" y="45" width="10" height="10" rx="2"/>"#,
            class(verdict)
        );
        text(svg, "small", "start", x + 15.0, 54.0, verdict.words());
        x += 98.0;
    }
    let _ = writeln!(
        svg,
        r#"<line class="floor" x1="{x}" y1="44" x2="{x}" y2="56"/>"#
    );
    text(svg, "small", "start", x + 8.0, 54.0, "floor");
}

fn footer(svg: &mut String, report: &Report, y: f64) {
    let settings = &report.settings;
    let lines = [
        format!(
            "{}, commit {}, PostgreSQL {} with fsync and synchronous commit.",
            report.day(),
            report.commit,
            settings.postgres
        ),
        format!(
            "Medians of {} alternating rounds of {} s; {} connections where a case says nothing else.",
            settings.rounds, settings.seconds_per_round, settings.connections
        ),
        format!(
            "One machine for servers and load: {}.",
            report.machine.words()
        ),
    ];
    for (position, line) in lines.iter().enumerate() {
        text(
            svg,
            "small",
            "start",
            24.0,
            y + 17.0 * position as f64,
            line,
        );
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::MetGoal => "met_goal",
        Verdict::MetFloor => "met_floor",
        Verdict::BelowFloor => "below_floor",
    }
}

fn rect(svg: &mut String, class: &str, y: f64, width: f64) {
    // Writing into a String cannot fail.
    let _ = writeln!(
        svg,
        r#"<rect class="{class}" x="{LEFT}" y="{y}" width="{width:.1}" height="{BAR}" rx="3"/>"#
    );
}

fn text(svg: &mut String, class: &str, anchor: &str, x: f64, y: f64, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        r#"<text class="{class}" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{words}</text>"#
    );
}

#[cfg(test)]
mod tests {
    use crate::sample::sample;

    #[test]
    fn every_case_has_its_bar_and_nothing_is_left_unescaped() {
        let report = sample(&[1.0, 0.8, 0.1, 4.0]);
        let svg = super::svg(&report);
        for outcome in &report.outcomes {
            let case = outcome.case;
            assert!(svg.contains(case.title), "{}", case.name);
        }
        assert!(svg.contains("Abacus &lt;3>"), "the machine");
        assert!(svg.contains("1970-01-01"), "the date");
        assert!(
            svg.contains(" ms p99 against 33,000 ms p50"),
            "a unit for each, where they differ"
        );
        assert!(svg.contains(" »"), "a bar beyond the scale says so");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
}
