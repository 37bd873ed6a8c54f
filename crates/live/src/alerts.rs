//! What is wrong, in words: what it is, what it means, and what to do. `RUNBOOK.md` says more of most.

use std::{collections::BTreeMap, fmt::Write as _};

use presence::Role;
use time::Duration;

use crate::view::{Alert, Process, Reached, View};

/// The limits of `deploy/prometheus/alerts.yml`.
const LAG_MAX_SECONDS: f64 = 10.0;
const OLDEST_MAX_SECONDS: f64 = 30.0;

/// What is wrong with what a view shows, worst first. `failures` are the requests that failed in the last 10 s, by the
/// code of their problem; `unreadable` is what PostgreSQL would not tell. Unless they are `heard`, what goes by
/// what processes say of themselves is left out.
pub(crate) fn alerts(
    view: &View,
    heard: bool,
    failures: &BTreeMap<String, u64>,
    unreadable: &[&str],
) -> Vec<Alert> {
    let mut alerts = Alerts::default();
    if view.servers.postgres == Reached::Down {
        alerts.add(
            "postgres_down",
            "PostgreSQL does not answer",
            "Nothing can be reserved or confirmed: requests are answered 503. Nothing is lost. What is shown here is how it \
                stood last.",
            "Bring PostgreSQL back, or look why this API cannot reach it. Everything then goes on by itself.",
        );
    } else {
        books(view, &mut alerts);
        workers(view, heard, &mut alerts);
    }
    if !unreadable.is_empty() {
        alerts.add(
            "cannot_read",
            format!("PostgreSQL does not tell of {}", unreadable.join(", ")),
            "It answers, but refuses this or takes too long. The sale may well go on; what is shown of it here is old.",
            "After an upgrade: run flashsale-api migrate, then deploy/postgres/roles.sql. Else look for who has locked the \
                table. With RUST_LOG=info,flashsale_api=debug the API's log names the cause.",
        );
    }
    if !failures.is_empty() {
        let mut title = "Requests fail:".to_owned();
        for (code, count) in failures {
            // Writing to a String cannot fail.
            let _ = write!(title, " {count} {code}");
        }
        title += " in the last 10 s";
        alerts.add(
            "requests_fail",
            title,
            "Shops repeat such requests. overloaded: nothing was done. outcome_unknown: the answer was lost.",
            "PostgreSQL up? Look for what holds a product's row, for a slow disk; or start more copies of the API.",
        );
    }
    if view.servers.redis == Reached::Down {
        alerts.add(
            "redis_down",
            "Redis does not answer",
            "The sale goes on, and nothing is lost. Holds expire up to a second late, events leave up to a tenth of a second \
                late, and the funnel is not counted.",
            "Bring Redis back. Then set the funnel right: \"Rebuild counters\" beside it.",
        );
    }
    alerts.0
}

fn books(view: &View, alerts: &mut Alerts) {
    if let Some(audit) = view.audit.as_ref().filter(|audit| !audit.clean) {
        alerts.add(
            "books_differ",
            format!("The books differ: {}", many(audit.difference_count, "counter is wrong", "counters are wrong")),
            "A product's counters are not what its reservations add up to. This cannot happen by itself: somebody has \
                changed rows by hand, or restored a part of a backup.",
            "Stop the sale of that product, find out who wrote to the tables, and correct the counters that the audit names.",
        );
    }
}

/// The expirer and the relay, and what waits for them.
fn workers(view: &View, heard: bool, alerts: &mut Alerts) {
    let alive = |role| {
        view.processes
            .iter()
            .filter(move |process| process.alive && process.role == role)
            .count()
    };
    if heard && alive(Role::Expirer) == 0 {
        alerts.add(
            "no_expirer",
            "No expirer is heard",
            "Shops notice nothing: a due hold reads as EXPIRED, and its unit is sold to who asks for it. But what is shown as \
                held is too much.",
            "Start flashsale-expirer; until then \"Expire due holds\" does the same once. One that runs all the same is of an \
                older release, or needs deploy/postgres/roles.sql.",
        );
    }
    if view.expiry.lag_seconds > LAG_MAX_SECONDS {
        alerts.add(
            "holds_overdue",
            format!("Holds have been due for {:.0} s", view.expiry.lag_seconds),
            "The expirer is away, cannot reach PostgreSQL, or is slower than holds fall due. No unit is lost to a sale.",
            "Look at the expirer's log, or start another one. \"Expire due holds\" ends them now.",
        );
    }
    if heard && alive(Role::Relay) == 0 {
        alerts.add(
            "no_relay",
            "No relay is heard",
            "Sales go on, but consumers get no events. Nothing is lost: the events wait in PostgreSQL.",
            "Start flashsale-relay. One that runs all the same is of an older release, or needs deploy/postgres/roles.sql.",
        );
    } else if heard && view.servers.rabbitmq == Reached::Down {
        alerts.add(
            "rabbitmq_down",
            "RabbitMQ does not take events",
            "Sales go on, but consumers get no events. Nothing is lost: the events wait in PostgreSQL.",
            "Bring RabbitMQ back; if it is up, free memory or disk: it blocks its publishers then.",
        );
    }
    if view.outbox.oldest_age_seconds > OLDEST_MAX_SECONDS {
        alerts.add(
            "events_wait",
            format!(
                "Events have waited for {:.0} s",
                view.outbox.oldest_age_seconds
            ),
            "Consumers are told late. Nothing is lost: the events wait in PostgreSQL.",
            "Look at the relay's log: is RabbitMQ up, is a queue bound? If it only drains slowly, start another relay.",
        );
    }
    if view.outbox.dead > 0 {
        alerts.add(
            "events_dead",
            many(view.outbox.dead.unsigned_abs(), "event is dead", "events are dead"),
            "The broker has refused them too often, or they cannot be read. They are kept, and are not tried any more.",
            "Mend the cause (GET /admin/outbox/dead shows each with its error), then \"Requeue dead events\".",
        );
    }
    for (role, name) in [
        (Role::Api, "API"),
        (Role::Expirer, "expirer"),
        (Role::Relay, "relay"),
    ] {
        let lost = lost(view, role);
        if heard && lost > 0 && alive(role) > 0 {
            alerts.add(
                "process_lost",
                format!("{lost} of {} copies of the {name} died", lost + alive(role)),
                "It ended without a farewell, or cannot reach PostgreSQL. The other copies do its work.",
                "Look at its last line of log, and start it again. It is forgotten after ten minutes.",
            );
        }
    }
}

/// How many copies have died, and no other was started since in their place. One that was may have died, too.
fn lost(view: &View, role: Role) -> usize {
    let copies = view.processes.iter().filter(|process| process.role == role);
    let lost = copies.clone().filter(|process| !process.alive);
    let heard = |process: &Process| view.at - Duration::seconds_f64(process.heard_seconds_ago);
    let first = lost.clone().map(heard).min();
    let since = copies.filter(|process| first.is_some_and(|first| process.started_at >= first));
    lost.count().saturating_sub(since.count())
}

fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

#[derive(Default)]
struct Alerts(Vec<Alert>);

impl Alerts {
    fn add(
        &mut self,
        code: &'static str,
        title: impl Into<String>,
        meaning: &'static str,
        action: &'static str,
    ) {
        self.0.push(Alert {
            code,
            title: title.into(),
            meaning,
            action,
        });
    }
}
