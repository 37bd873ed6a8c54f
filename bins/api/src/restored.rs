//! The command `restored`, for a database that was restored to an earlier moment. [The runbook](../../../RUNBOOK.md)
//! says when to use it.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufReader, Write as _, stdin},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use inventory::{
    compatibility, database,
    event::Event,
    id_epoch,
    restored::{self, Received},
};
use runtime::Process;
use serde_json::Value;
use sqlx::PgPool;

use crate::counters;

/// Events that are compared in one call. The call reads the whole outbox, so it should not be small.
const EVENTS_PER_CALL: usize = 20_000;

/// How long a commit may take before this command says that it waits for a standby.
const COMMIT_LIMIT: Duration = Duration::from_secs(3);

/// How long a server that is still starting is waited for.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Advances the ids, rebuilds the counters in Redis, and compares `events` with the database. Notes for people go to
/// stderr, and each lost event is one line of JSON on stdout.
///
/// # Errors
///
/// Something could not be done. The rest was tried.
pub(crate) async fn run(
    database: &database::Args,
    timer: &timer::Args,
    events: Option<&Path>,
    process: &Process,
) -> anyhow::Result<()> {
    let pool = database::connect(database, "flashsale-api restored")?;
    let checked = compatibility::check_within(&pool, START_LIMIT).await;
    checked.map_err(|unusable| anyhow!("cannot use the database: {unusable}"))?;
    id_epoch::advance_always(&pool)
        .await
        .context("cannot advance the ids, which needs the role that migrates")?;
    eprintln!("ids: advanced, so that none of the lost ones is given out again");
    let mut failures = Vec::new();
    let waits = restored::waits_for_standby(&pool, COMMIT_LIMIT).await?;
    if let Some(names) = waits {
        failures.push(format!(
            "every commit waits for a standby: synchronous_standby_names is '{names}'. If it does not exist here: \
             alter system set synchronous_standby_names = ''; select pg_reload_conf()"
        ));
    }
    match counters::rebuild(&pool, timer, process).await {
        Ok(()) => eprintln!("counters in Redis: rebuilt"),
        Err(error) => failures.push(format!(
            "the counters in Redis are not rebuilt ({error:#}): call POST /admin/counters/rebuild later"
        )),
    }
    if let Some(path) = events {
        report(&pool, path).await?;
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    match failures.len() {
        0 => Ok(()),
        count => bail!("{count} steps are left, see above"),
    }
}

/// Prints the events in the file that the database has no trace of.
async fn report(pool: &PgPool, path: &Path) -> anyhow::Result<()> {
    let name = path.display().to_string();
    let lines: Box<dyn BufRead> = match name.as_str() {
        "-" => Box::new(BufReader::new(stdin())),
        _ => {
            let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
            Box::new(BufReader::new(file))
        }
    };
    let (mut seen, mut batch, mut lost) = (HashSet::new(), Vec::new(), 0);
    for (number, line) in lines.lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {name}"))?;
        if line.trim().is_empty() {
            continue;
        }
        let received = parse(&line).with_context(|| format!("{name}, line {}", number + 1))?;
        if seen.insert(received.message_id) {
            batch.push(received);
        }
        if batch.len() == EVENTS_PER_CALL {
            lost += print_lost(pool, std::mem::take(&mut batch)).await?;
        }
    }
    lost += print_lost(pool, batch).await?;
    let count = seen.len();
    eprintln!("events: {count} read, {lost} of them are not in the database");
    Ok(())
}

async fn print_lost(pool: &PgPool, received: Vec<Received>) -> anyhow::Result<usize> {
    let lost = restored::lost(pool, received).await?;
    let mut out = std::io::stdout().lock();
    for event in &lost {
        writeln!(out, "{}", serde_json::to_string(event)?)?;
    }
    Ok(lost.len())
}

/// Parses a line: a message id, or an object with `message_id` and the message's body. The object may also be a message
/// as RabbitMQ's management API shows it, with `properties` and the body as text in `payload`.
fn parse(line: &str) -> anyhow::Result<Received> {
    let line = line.trim();
    let value = serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
    let id = match &value {
        Value::Object(message) => message
            .get("message_id")
            .or_else(|| message.get("properties")?.get("message_id")),
        id => Some(id),
    };
    let id = id.context("there is no message_id")?;
    let message_id = serde_json::from_value(id.clone())
        .map_err(|_| anyhow!("the message id is not a UUID: {id}"))?;
    let body = match value.get("payload").and_then(Value::as_str) {
        Some(text) => serde_json::from_str(text).context("the payload is not JSON")?,
        None => value,
    };
    let event = match body.get("event_type") {
        Some(_) => Some(serde_json::from_value::<Event>(body).context("the event is not known")?),
        None => None,
    };
    Ok(Received { message_id, event })
}

/// Options of the command.
#[derive(clap::Args)]
pub struct Args {
    /// File with the events that consumers received since the time of the restore, or - for stdin. Each line is a
    /// message id, or an object with message_id, event_type and payload. Those that the database does not know are
    /// printed, with what to do.
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b3a5f2c-7a55-4a46-9a8e-0d5c2b1f6a77";
    const BODY: &str = r#""event_type":"ReservationCanceled","payload":{"reservation_id":1,"product_id":2,
        "user_id":3,"quantity":1,"canceled_at":"2026-02-14T12:30:00Z"}"#;

    #[test]
    fn a_line_is_a_message_id_or_a_message() {
        let text = serde_json::to_string(&format!("{{{BODY}}}")).unwrap_or_default();
        for (line, has_event) in [
            (ID.to_owned(), false),
            (format!("\"{ID}\""), false),
            (format!(r#"{{"message_id":"{ID}"}}"#), false),
            (format!(r#"{{"message_id":"{ID}",{BODY}}}"#), true),
            (
                format!(r#"{{"properties":{{"message_id":"{ID}"}},"payload":{text}}}"#),
                true,
            ),
        ] {
            let received = parse(&line).unwrap_or_else(|error| panic!("{line}: {error:#}"));
            assert_eq!(received.message_id.to_string(), ID, "{line}");
            assert_eq!(received.event.is_some(), has_event, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_neither_is_refused() {
        for line in [
            "order 7".to_owned(),
            format!("{{{BODY}}}"),
            r#"{"message_id":7}"#.to_owned(),
            format!(r#"{{"message_id":"{ID}","event_type":"ReservationLost","payload":{{}}}}"#),
            format!(r#"{{"message_id":"{ID}","payload":"half"}}"#),
        ] {
            assert!(parse(&line).is_err(), "{line}");
        }
    }
}
