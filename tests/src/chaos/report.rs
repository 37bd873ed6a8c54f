//! The printed report of a run.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
};

use super::{
    checker::{About, Violation},
    clock::Micros,
    history::{Entry, EntryStatus, History, Operation, Request, Told},
    world::{Gaps, Injected},
};

/// Maximum number of violations that are shown with their history.
const STORIES: usize = 10;
const LINES_A_STORY: usize = 200;

pub(crate) fn faults(history: &History, injected: &[Injected], skipped: usize) -> String {
    let mut text = String::from("faults:\n");
    for one in injected {
        let _ = writeln!(
            text,
            "  {} to {}  {}{}",
            history.clock(one.began),
            history.clock(one.ended),
            one.what,
            match one.recovered {
                Some(at) => format!(", works again after {:.2} s", seconds(at - one.ended)),
                None => ", never recovered".to_owned(),
            }
        );
    }
    let _ = writeln!(
        text,
        "  {skipped} more were skipped: their target was already affected"
    );
    text
}

/// Operations by verb and outcome.
pub(crate) fn operations(history: &History) -> String {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for operation in &history.operations {
        *counts
            .entry((operation.verb(), operation.outcome()))
            .or_default() += 1;
    }
    let mut text = format!("operations: {}\n", history.operations.len());
    let mut last = "";
    for ((verb, outcome), count) in &counts {
        let lead = if *verb == last {
            ","
        } else if last.is_empty() {
            "  "
        } else {
            "\n  "
        };
        let verb_once = if *verb == last {
            String::new()
        } else {
            format!("{verb}:")
        };
        let _ = write!(text, "{lead}{verb_once} {count} {outcome}");
        last = verb;
    }
    text.push('\n');
    let keys: Vec<&str> = history
        .operations
        .iter()
        .filter_map(|operation| operation.key.as_deref())
        .collect();
    let distinct = keys.iter().collect::<HashSet<_>>().len();
    let replayed = history.operations.iter().filter(|one| one.replayed).count();
    let _ = writeln!(
        text,
        "  with an Idempotency-Key: {distinct}, repeated {} times; {replayed} answers were replayed",
        keys.len() - distinct
    );
    text
}

/// What became of those who joined waitlists.
pub(crate) fn lines(history: &History) -> String {
    let entries = &history.stored.entries;
    let count = |wanted: fn(&Entry) -> bool| entries.iter().filter(|entry| wanted(entry)).count();
    format!(
        "waitlists: {} joined, {} were offered units, {} of them after they had waited; {} left\n",
        entries.len(),
        count(|entry| entry.status == EntryStatus::Offered),
        count(|entry| entry.status == EntryStatus::Offered && entry.ended > Some(entry.created)),
        count(|entry| entry.status == EntryStatus::Left),
    )
}

pub(crate) fn deliveries(history: &History) -> String {
    let distinct: HashSet<&str> = history
        .deliveries
        .iter()
        .map(|delivery| delivery.event.as_str())
        .collect();
    let redelivered = history
        .deliveries
        .iter()
        .filter(|delivery| delivery.redelivered)
        .count();
    let repeats = history.deliveries.len() - distinct.len();
    format!(
        "events: {} written, {} received in {} deliveries: {repeats} repeats ({:.1} %; the broker calls {redelivered} redelivered)\n",
        history.stored.events.len(),
        distinct.len(),
        history.deliveries.len(),
        100.0 * repeats as f64 / distinct.len().max(1) as f64,
    )
}

pub(crate) fn views(history: &History) -> String {
    let viewers = history.viewers.iter();
    let shown: Vec<String> = viewers
        .map(|shown| {
            let alerts = shown.iter().filter_map(|one| one.message.as_ref().ok());
            let alerts = alerts.filter(|view| !view.alerts.is_empty()).count();
            let connections = shown
                .iter()
                .map(|one| one.connection)
                .collect::<HashSet<_>>();
            format!(
                "{} messages on {} connections, {alerts} with alerts",
                shown.len(),
                connections.len()
            )
        })
        .collect();
    format!("live page, of each API: {}\n", shown.join("; "))
}

/// What clients and consumers noticed, by kind of fault, where it was measured.
pub(crate) fn gaps(injected: &[Injected]) -> String {
    let mut kinds: BTreeMap<&str, Vec<Gaps>> = BTreeMap::new();
    for one in injected {
        if let Some(gaps) = one.gaps {
            kinds.entry(one.kind).or_default().push(gaps);
        }
    }
    if kinds.is_empty() {
        return String::new();
    }
    let mut text =
        String::from("longest times without an acknowledged write, and without an event:\n");
    for (kind, all) in kinds {
        let most = |of: fn(&Gaps) -> Micros| all.iter().map(of).max().map_or(0.0, seconds);
        let (writes, events) = (most(|gaps| gaps.writes), most(|gaps| gaps.events));
        let count = all.len();
        let _ = writeln!(text, "  {kind}: {count}, {writes:.1} s, {events:.1} s");
    }
    text
}

/// Recovery times by kind of fault. Overlapping faults are left out.
pub(crate) fn recovery(injected: &[Injected]) -> String {
    let mut times: BTreeMap<&str, Vec<Micros>> = BTreeMap::new();
    let mut disturbed = 0;
    for one in injected {
        let Some(recovered) = one.recovered.filter(|at| *at > one.ended) else {
            continue;
        };
        let overlaps = |other: &&Injected| other.began < recovered && other.ended > one.ended;
        if injected.iter().filter(overlaps).count() > 1 {
            disturbed += 1;
        } else {
            times
                .entry(one.kind)
                .or_default()
                .push(recovered - one.ended);
        }
    }
    let mut text = String::from("recovery times, from a fault's end until its targets work:\n");
    let all: Vec<Micros> = times.values().flatten().copied().collect();
    for (kind, mut times) in times.into_iter().chain([("all", all)]) {
        times.sort_unstable();
        if let (Some(p50), Some(max)) = (times.get(times.len().saturating_sub(1) / 2), times.last())
        {
            let (count, p50, max) = (times.len(), seconds(*p50), seconds(*max));
            let _ = writeln!(text, "  {kind}: {count}, p50 {p50:.2} s, max {max:.2} s");
        }
    }
    let _ = writeln!(text, "  {disturbed} not counted: other faults overlapped");
    text
}

/// The violations, with the history of each hold or product once.
pub(crate) fn violations(history: &History, violations: &[Violation]) -> String {
    let mut text = String::new();
    let mut kinds: HashMap<String, usize> = HashMap::new();
    let mut told: Vec<About> = Vec::new();
    for violation in violations {
        *kinds.entry(format!("{:?}", violation.promise)).or_default() += 1;
        let enough = told.len() >= STORIES && violation.about != About::Service;
        if told.contains(&violation.about) || enough {
            continue;
        }
        told.push(violation.about);
        for other in violations
            .iter()
            .filter(|other| other.about == violation.about)
            .take(20)
        {
            let _ = writeln!(text, "violation of {other}");
        }
        let story = story(history, violation.about);
        if !story.is_empty() {
            let _ = writeln!(text, "  history of {:?}:", violation.about);
        }
        for line in story.iter().take(LINES_A_STORY) {
            let _ = writeln!(text, "    {line}");
        }
        if story.len() > LINES_A_STORY {
            let _ = writeln!(text, "    … and {} lines more", story.len() - LINES_A_STORY);
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort();
    for (kind, count) in kinds {
        let _ = writeln!(text, "{kind}: {count}");
    }
    text
}

/// Everything known about a hold or product, in order of time.
fn story(history: &History, about: About) -> Vec<String> {
    let holds: HashSet<i64> = history
        .stored
        .holds
        .iter()
        .filter(|hold| about == About::Product(hold.product))
        .map(|hold| hold.id)
        .chain(match about {
            About::Hold(id) => Some(id),
            About::Product(_) | About::Service => None,
        })
        .collect();
    let mut lines: Vec<(Micros, String)> = history
        .operations
        .iter()
        .filter(|operation| mentions(operation, about, &holds))
        .map(|operation| (operation.began, history.describe(operation)))
        .collect();
    for act in &history.moves {
        if act.holds.iter().any(|id| holds.contains(id)) {
            let (began, ended) = (history.clock(act.began), history.clock(act.ended));
            let line = format!(
                "{began} to {ended}  deadlines moved (done: {}) {:?}",
                act.done, act.holds
            );
            lines.push((act.began, line));
        }
    }
    for delivery in &history.deliveries {
        if delivery
            .told
            .as_ref()
            .and_then(Told::hold)
            .is_some_and(|hold| holds.contains(&hold))
        {
            let line = format!("{}  received {delivery:?}", history.clock(delivery.at));
            lines.push((delivery.at, line));
        }
    }
    lines.sort();
    let stored = &history.stored;
    let rows = stored.holds.iter().filter(|hold| holds.contains(&hold.id));
    let rows = rows.map(|hold| format!("stored: {}", history.describe_hold(hold)));
    let events = stored.events.iter().filter(|event| {
        event
            .told
            .as_ref()
            .and_then(Told::hold)
            .is_some_and(|hold| holds.contains(&hold))
    });
    let products = stored
        .products
        .iter()
        .filter(|row| about == About::Product(row.id));
    lines
        .into_iter()
        .map(|(_, line)| line)
        .chain(rows)
        .chain(events.map(|event| format!("stored: {event:?}")))
        .chain(products.map(|product| format!("stored: {product:?}")))
        .collect()
}

/// Whether an operation is about a product or one of these holds.
fn mentions(operation: &Operation, about: About, holds: &HashSet<i64>) -> bool {
    let product = match &operation.request {
        Request::Product(id)
        | Request::Reserve { product: id, .. }
        | Request::Adjust { product: id, .. }
        | Request::Join { product: id, .. }
        | Request::ChangeProduct { product: id, .. } => about == About::Product(*id),
        Request::ReserveBatch { items, .. } => {
            items.iter().any(|(id, _)| about == About::Product(*id))
        }
        _ => false,
    };
    product || operation.holds().iter().any(|id| holds.contains(id))
}

fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}
