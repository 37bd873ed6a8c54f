//! The alerts of the live page. Each has a title, a meaning, and what to do. `RUNBOOK.md` has more about most of
//! them.

use std::{collections::BTreeMap, fmt::Write as _};

use presence::Role;
use time::Duration;

use crate::view::{Alert, Process, Reached, Severity, View};

/// The same limits as in `deploy/prometheus/alerts.yml`.
const LAG_MAX_SECONDS: f64 = 10.0;
const OLDEST_MAX_SECONDS: f64 = 30.0;
const SNAPSHOT_MAX_SECONDS: f64 = 60.0;
const COMMIT_MAX_SECONDS: f64 = 2.0;

/// The alerts of a view, worst first. `failures` are the requests that failed in the last 10 s, by problem code.
/// `unreadable` names the data that PostgreSQL refused to return. If `heard` is false, heartbeats could not be read,
/// so alerts that depend on heartbeats are left out.
pub(crate) fn alerts(
    view: &View,
    heard: bool,
    failures: &BTreeMap<String, u64>,
    unreadable: &[&str],
) -> Vec<Alert> {
    let mut alerts = Alerts::default();
    if view.servers.postgres == Reached::Down {
        alerts.raise(Severity::Critical,
            "postgres_down",
            "PostgreSQL does not answer",
            "Requests are answered 503, so no reservation can be made or confirmed. No data is lost. The numbers \
                here are the last known ones.",
            "Restart PostgreSQL, or find out why this API cannot reach it. All processes then continue by \
                themselves.",
        );
    } else if view.database.read_only {
        // Without writes there are no heartbeats and no sweeps. The processes are not to blame.
        alerts.raise(Severity::Critical,
            "postgres_read_only",
            "PostgreSQL is read-only",
            "Requests are answered 503, so no reservation can be made or confirmed. No data is lost. The server is a \
                standby, or default_transaction_read_only is on.",
            "Promote the server, or let DATABASE_URL lead to the primary. All processes then continue by themselves.",
        );
    } else {
        database(view, &mut alerts);
        inventory(view, &mut alerts);
        expirer(view, heard, &mut alerts);
        relay(view, heard, &mut alerts);
        lost_processes(view, heard, &mut alerts);
    }
    if !unreadable.is_empty() {
        alerts.raise(Severity::Warning,
            "cannot_read",
            format!("PostgreSQL does not return {}", unreadable.join(", ")),
            "PostgreSQL answers, but refuses this query or takes too long. The sale may continue. The numbers here \
                are old.",
            "After an upgrade: run flashsale-api migrate, then deploy/postgres/roles.sql. Otherwise find the session \
                that locks the table. With RUST_LOG=info,live=debug the API's log names the cause.",
        );
    }
    if !failures.is_empty() {
        let mut title = "Requests fail:".to_owned();
        for (code, count) in failures {
            // Writing to a String cannot fail.
            let _ = write!(title, " {count} {code}");
        }
        title += " in the last 10 s";
        alerts.raise(Severity::Critical,
            "requests_fail",
            title,
            "Clients repeat these requests. overloaded: nothing was done. outcome_unknown: the request may have been \
                done.",
            "Check that PostgreSQL is up. Look for a session that locks a product's row, and for a slow disk. Or \
                start more copies of the API.",
        );
    }
    if view.servers.redis == Reached::Down {
        alerts.raise(Severity::Warning,
            "redis_down",
            "Redis does not answer",
            "The sale continues, and no data is lost. Holds expire up to 1 s late, and events are published up to \
                0.1 s late. The counters of reservations are not updated.",
            "Restart Redis. Then use \"Rebuild counters\" on this page to correct the counters.",
        );
    }
    // The sort is stable: alerts of the same severity keep their order.
    alerts.0.sort_by_key(|alert| alert.severity);
    alerts.0
}

fn database(view: &View, alerts: &mut Alerts) {
    let stalled = view.database.stalled_commit_seconds;
    if stalled > COMMIT_MAX_SECONDS {
        alerts.raise(Severity::Critical,
            "commits_stalled",
            format!("Commits have waited for a standby for {stalled:.0} s"),
            "No synchronous standby confirms. Requests wait, and are then answered outcome_unknown: they may have \
                been done. After 5 s no process is ready.",
            "Bring the standby back, or remove it from synchronous_standby_names and reload. The second gives up the \
                copy of each commit. Do not end the sessions that wait.",
        );
    }
    let oldest = view.database.oldest_snapshot_seconds;
    if let Some(holder) = &view.database.oldest_snapshot_holder
        && oldest > SNAPSHOT_MAX_SECONDS
    {
        alerts.raise(Severity::Warning,
            "old_snapshot",
            format!("Old row versions are kept for {holder}, for {oldest:.0} s now"),
            "PostgreSQL cannot remove old row versions. A product on sale becomes slower by the minute.",
            "End the transaction (RUNBOOK.md, \"A transaction stays open\"). Take dumps from a standby without \
                hot_standby_feedback.",

        );
    }
}

fn inventory(view: &View, alerts: &mut Alerts) {
    if let Some(audit) = view.audit.as_ref().filter(|audit| !audit.clean) {
        let wrong = many(
            audit.difference_count,
            "counter is wrong",
            "counters are wrong",
        );
        alerts.raise(Severity::Critical,
            "inventory_inconsistent",
            format!("Inventory inconsistent: {wrong}"),
            "The counters of a product are not the sums of its reservations. The service itself does not cause this. \
                Usually somebody changed rows by hand, or restored a part of a backup.",
            "Stop the sale of the product, find out who changed the tables, and correct the counters that the audit \
                names.",
        );
    }
}

/// The number of running processes of this role.
fn alive(view: &View, role: Role) -> usize {
    let alive = |process: &&Process| process.alive && process.role == role;
    view.processes.iter().filter(alive).count()
}

fn expirer(view: &View, heard: bool, alerts: &mut Alerts) {
    if heard && alive(view, Role::Expirer) == 0 {
        alerts.raise(Severity::Warning,
            "no_expirer",
            "No expirer sends heartbeats",
            "A due hold is shown as EXPIRED, and other users can reserve its units. But the number of held units is too \
                high, and users in a waitlist wait longer: they get units of due holds only when somebody reserves or \
                joins.",
            "Start flashsale-expirer. Until then, \"Expire due holds\" does the same once. If an expirer is running, \
                it is of an older release, or deploy/postgres/roles.sql must be run.",
        );
    }
    if view.expiry.lag_seconds > LAG_MAX_SECONDS {
        alerts.raise(Severity::Warning,
            "holds_overdue",
            format!("Holds have been due for {:.0} s", view.expiry.lag_seconds),
            "The expirer is down, cannot reach PostgreSQL, or is too slow. Other users can still reserve the units \
                of due holds. Users in a waitlist wait longer.",
            "Read the expirer's log, or start another expirer. \"Expire due holds\" ends these holds now.",
        );
    }
}

fn relay(view: &View, heard: bool, alerts: &mut Alerts) {
    if heard && alive(view, Role::Relay) == 0 {
        alerts.raise(Severity::Warning,
            "no_relay",
            "No relay sends heartbeats",
            "Sales continue, but consumers get no events. No event is lost: the events wait in PostgreSQL.",
            "Start flashsale-relay. If a relay is running, it is of an older release, or deploy/postgres/roles.sql \
                must be run.",
        );
    } else if heard && view.servers.rabbitmq == Reached::Down {
        alerts.raise(Severity::Warning,
            "rabbitmq_down",
            "RabbitMQ does not accept events",
            "Sales continue, but consumers get no events. No event is lost: the events wait in PostgreSQL.",
            "Restart RabbitMQ. If it is running, free memory or disk space: without them it blocks publishers.",
        );
    }
    if view.outbox.oldest_age_seconds > OLDEST_MAX_SECONDS {
        alerts.raise(Severity::Warning,
            "events_wait",
            format!(
                "Events have waited for {:.0} s",
                view.outbox.oldest_age_seconds
            ),
            "Consumers get events late. No event is lost: the events wait in PostgreSQL.",
            "Read the relay's log. Check that RabbitMQ is up and that a queue is bound. If the relay is only slow, \
                start another one.",
        );
    }
    if view.outbox.dead > 0 {
        alerts.raise(Severity::Warning,
            "events_dead",
            many(view.outbox.dead.unsigned_abs(), "event is a dead letter", "events are dead letters"),
            "The broker refused these events too often, or they cannot be parsed. They are stored, but not tried \
                again.",
            "Fix the cause (GET /admin/outbox/dead shows each event with its error). Then use \"Requeue dead \
                letters\".",
        );
    }
}

fn lost_processes(view: &View, heard: bool, alerts: &mut Alerts) {
    for (role, name) in [
        (Role::Api, "API"),
        (Role::Expirer, "expirer"),
        (Role::Relay, "relay"),
    ] {
        let lost = lost(view, role);
        if heard && lost > 0 && alive(view, role) > 0 {
            alerts.raise(Severity::Warning,
                "process_lost",
                format!("Down: {lost} of {} copies of the {name}", lost + alive(view, role)),
                "The process crashed, or cannot reach PostgreSQL. The other copies do its work.",
                "Read the last line of its log, and start it again. This alert ends after 10 min at the latest.",
            );
        }
    }
}

/// The number of copies that are down and were not replaced. A copy that was started after the first of them went
/// down counts as a replacement, even if it is down as well.
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
    fn raise(
        &mut self,
        severity: Severity,
        code: &'static str,
        title: impl Into<String>,
        meaning: &'static str,
        action: &'static str,
    ) {
        self.0.push(Alert {
            code,
            severity,
            title: title.into(),
            meaning,
            action,
        });
    }
}
