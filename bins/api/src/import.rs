//! `flashsale-api import`: creates and changes products from a file.

mod read;

use std::{
    fs,
    io::{self, BufWriter, Read as _, Write},
    path::Path,
};

use anyhow::Context as _;
use inventory::{
    compatibility::{self, Unusable},
    database,
    event::Events,
    import::{self, Imported, MAX_ROWS, Mode, Outcome, Row},
};
use runtime::Process;
use sqlx::PgPool;

use crate::counters;
use read::{Line, read};

/// A file with more rows shows its progress.
const PROGRESS_EVERY: usize = 10_000;

/// How long the import waits for a connection, in milliseconds.
const ACQUIRE_MILLISECONDS: u64 = 30_000;

/// Imports a file. Every row is checked before the first one is written. Prints one line for each row to stdout, and
/// everything else to stderr.
pub(crate) async fn import(
    file: &Path,
    mode: Mode,
    (args, timer): (&database::Args, &timer::Args),
    events: &Events,
    process: &Process,
) -> anyhow::Result<()> {
    let rows = match read(&content(file)?) {
        Ok(rows) => rows,
        Err(wrong) => {
            return Err(refuse(
                wrong.iter().map(|(line, why)| (*line, why.as_str())),
            ));
        }
    };
    // Nobody waits for an answer, so a slow server is no reason to give up.
    let args = database::Args {
        database_acquire_milliseconds: ACQUIRE_MILLISECONDS,
        ..args.clone()
    };
    let pool = database::connect(&args, "flashsale-import")?;
    match compatibility::check(&pool).await {
        // The check waits for a moment only. The import itself says if the server is away.
        Ok(_) | Err(Unusable::NoAnswer(_)) => {}
        Err(unusable) => return Err(unusable.into()),
    }
    let events = &with_those_of_processes(events, &pool).await?;
    let all: Vec<&Row> = rows.iter().map(|row| &row.value).collect();
    let mut imported = run(&pool, &all, Mode::Check, events, |_| ()).await?;
    refused(&rows, &imported)?;
    if mode == Mode::Write {
        let differs = |imported: &Imported| !matches!(imported, Imported::Unchanged(_));
        let places: Vec<usize> = (0..rows.len()).filter(|n| differs(&imported[*n])).collect();
        let new: Vec<&Row> = places.iter().map(|place| all[*place]).collect();
        let (mut offered, mut has_events) = (0, false);
        let written = run(&pool, &new, Mode::Write, events, |done| {
            offered += done.offered;
            has_events |= done.transitions().any(|it| it.has_event(events));
        });
        let written = written.await;
        tell(timer, offered, has_events, process).await;
        let written = written.context(
            "the import was interrupted: a part of the rows may have been written. Import the file again: it does what \
            is left",
        )?;
        for (place, written) in places.into_iter().zip(written) {
            imported[place] = written;
        }
    }
    print(&rows, &imported, mode)?;
    // A sale or another import may have come between.
    refused(&rows, &imported)
}

/// The types of events to write: those of `OUTBOX_EVENTS` and of the running processes. Otherwise users who wait could be
/// offered holds of which no consumer hears, because this command was started without the setting.
async fn with_those_of_processes(events: &Events, pool: &PgPool) -> anyhow::Result<Events> {
    let found = presence::instances(pool).await;
    let (_, processes) = found
        .map_err(|error| anyhow::anyhow!("{error}: {}", error.cause()))
        .context("cannot read which events the processes write")?;
    let told: Vec<_> = processes
        .into_iter()
        .filter_map(|process| process.report.events)
        .collect();
    if told.is_empty() {
        let own = events.names().join(",");
        eprintln!(
            "no API and no expirer is running: events are written as OUTBOX_EVENTS of this command says ({own})"
        );
    }
    Ok(events.with(&told.concat()))
}

fn content(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    String::from_utf8(bytes).context("the file is not UTF-8")
}

/// Tells Redis of the holds that users who waited were offered, and of new events.
async fn tell(timer: &timer::Args, offered: u64, has_events: bool, process: &Process) {
    if offered == 0 && !has_events {
        return;
    }
    if let Err(error) = counters::tell(timer, offered, has_events, process).await {
        eprintln!(
            "{error:#}: its counters lack {offered} holds that were offered to users who waited. \
            POST /admin/counters/rebuild adds them"
        );
    }
}

/// Imports or checks the rows, call by call. Calls `after` with the result of each call.
async fn run(
    pool: &PgPool,
    rows: &[&Row],
    mode: Mode,
    events: &Events,
    mut after: impl FnMut(&Outcome),
) -> anyhow::Result<Vec<Imported>> {
    let mut imported = Vec::with_capacity(rows.len());
    let done = match mode {
        Mode::Check => "checked",
        Mode::Write => "written",
    };
    for part in rows.chunks(MAX_ROWS) {
        let part = import::import(pool, part, mode, events).await;
        let part = part.map_err(|error| anyhow::anyhow!("{error}: {}", error.cause()))?;
        after(&part);
        imported.extend(part.rows);
        if rows.len() > PROGRESS_EVERY && imported.len() % PROGRESS_EVERY == 0 {
            eprintln!("{} of {} rows {done}", imported.len(), rows.len());
        }
    }
    Ok(imported)
}

fn refused(rows: &[Line<Row>], imported: &[Imported]) -> anyhow::Result<()> {
    let refusals: Vec<(u64, String)> = rows
        .iter()
        .zip(imported)
        .filter_map(|(row, imported)| match imported {
            Imported::Refused(why) => Some((row.number, format!("{}: {why}", row.value.sku))),
            _ => None,
        })
        .collect();
    match refusals.is_empty() {
        true => Ok(()),
        false => Err(refuse(
            refusals.iter().map(|(line, why)| (*line, why.as_str())),
        )),
    }
}

/// Tells all that is wrong, with the lines of the file.
fn refuse<'a>(wrong: impl Iterator<Item = (u64, &'a str)>) -> anyhow::Error {
    let mut count = 0;
    for (line, why) in wrong {
        eprintln!("line {line}: {why}");
        count += 1;
    }
    anyhow::anyhow!("{count} rows are refused")
}

fn print(rows: &[Line<Row>], imported: &[Imported], mode: Mode) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let [mut created, mut changed, mut unchanged] = [0; 3];
    for (row, imported) in rows.iter().zip(imported) {
        let sku = &row.value.sku;
        match imported {
            Imported::Created(Some(id)) => {
                created += 1;
                writeln!(out, "created {sku} as product {id}")?;
            }
            Imported::Created(None) => {
                created += 1;
                writeln!(out, "created {sku}")?;
            }
            Imported::Changed(id, fields) => {
                changed += 1;
                writeln!(out, "changed {sku}, product {id}: {}", fields.join(", "))?;
            }
            Imported::Unchanged(id) => {
                unchanged += 1;
                writeln!(out, "unchanged {sku}, product {id}")?;
            }
            Imported::Refused(_) => {}
        }
    }
    out.flush()?;
    let dry = match mode {
        Mode::Check => "; nothing was written",
        Mode::Write => "",
    };
    eprintln!("{created} products created, {changed} changed, {unchanged} unchanged{dry}");
    Ok(())
}
