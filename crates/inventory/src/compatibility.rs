//! Checks whether this program can work with the database: schema version, functions and isolation level.

use std::{collections::HashSet, time::Duration};

use sqlx::{FromRow, PgConnection, PgPool};
use tokio::time::{sleep, timeout};

use crate::{
    Error,
    database::{
        CHECK_LIMIT, CONNECT_LIMIT, READ_ONLY, connect_beside, fetch, on_connection, was_read_only,
    },
    migrate,
};

/// Time limit for a connection from the pool. Shorter than the pool's own, so that the rest of a health check's time is
/// enough to find out why there is none.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(1);

/// Interval between checks while the database cannot be used.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The only isolation level at which a statement sees the changes of the previous holder of its lock.
pub(crate) const ISOLATION: &str = "read committed";

/// Why this program cannot use the database. Schema versions are the numbers of the files in `migrations/`.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// No connection, or no answer in time. The text is the cause. It is only for the log: HTTP answers never repeat
    /// a message of the database.
    #[error("PostgreSQL does not answer")]
    NoAnswer(String),
    /// PostgreSQL refused the query. The text is the cause, only for the log.
    #[error("PostgreSQL refuses to say which schema it has")]
    Refused(String),
    /// The schema is older than this program needs. `there` is 0 when there is no schema.
    #[error("schema is at {there}, this program needs {needed}: run flashsale-api migrate")]
    Older {
        /// Version of the schema.
        there: i64,
        /// Version that this program needs.
        needed: i64,
    },
    /// The schema is newer, and not compatible with this program.
    #[error(
        "schema is at {there}, which works with programs that need {compatible_from} or later, and this one needs \
         {needed}: run a newer version of this program"
    )]
    Newer {
        /// Version of the schema.
        there: i64,
        /// Oldest version whose programs work with this schema.
        compatible_from: i64,
        /// Version that this program needs.
        needed: i64,
    },
    /// Functions that this program calls are not installed.
    #[error(
        "schema is at {there}, but the functions {missing} are missing: run flashsale-api migrate"
    )]
    HalfMigrated {
        /// Version of the schema.
        there: i64,
        /// Names of the missing functions, separated by commas.
        missing: String,
    },
    /// The schema dates from before the first release and cannot be migrated.
    #[error(
        "the schema is of a version from before the first release: make a new database, set DATABASE_URL to it, and \
         run flashsale-api migrate"
    )]
    Unreleased,
    /// Nothing can be written.
    #[error("{READ_ONLY}")]
    ReadOnly,
    /// The database cannot store all names.
    #[error(
        "the encoding of the database is {0}, and must be UTF8: create database … encoding 'UTF8' template template0"
    )]
    Encoding(String),
    /// The sessions have another isolation level than read committed.
    #[error(
        "the isolation level is '{0}', and must be 'read committed': alter role … set default_transaction_isolation \
         = 'read committed'"
    )]
    Isolation(String),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        match error.is_refusal() {
            true => Self::Refused(error.cause()),
            false => Self::NoAnswer(error.cause()),
        }
    }
}

impl Unusable {
    fn cause(&self) -> Option<&str> {
        match self {
            Self::NoAnswer(cause) | Self::Refused(cause) => Some(cause),
            _ => None,
        }
    }
}

/// State of the schema and the session.
#[derive(FromRow)]
struct Found {
    version: i32,
    compatible_from: i32,
    isolation: String,
    writable: bool,
    encoding: String,
    fsync: bool,
    full_page_writes: bool,
    synchronous_commit: bool,
    missing: Vec<String>,
}

/// Settings of PostgreSQL that weaken a promise, as texts for people.
pub type Warnings = Vec<&'static str>;

/// The schema version that this program needs: the highest number of its migrations.
fn needed() -> i64 {
    let versions = migrate::NUMBERED.iter().map(|migration| migration.version);
    versions.max().unwrap_or(0)
}

/// Fails unless PostgreSQL answers, can be written to, and has a schema that this program can work with. Any role of
/// this service may call it.
pub async fn check(pool: &PgPool) -> Result<Warnings, Unusable> {
    let checked = async |connection: &mut PgConnection| Ok(check_on(connection).await);
    let acquired = timeout(ACQUIRE_LIMIT, pool.acquire()).await;
    let Ok(Ok(connection)) = acquired else {
        if was_read_only() {
            return Err(Unusable::ReadOnly);
        }
        // Either the pool cannot connect, or all its connections are busy, which does not make the database unusable.
        let mut beside = connect_beside(pool).await.map_err(Unusable::NoAnswer)?;
        let checked = timeout(CONNECT_LIMIT, check_on(&mut beside)).await;
        return checked.unwrap_or_else(|_| Err(Unusable::NoAnswer("no answer in time".to_owned())));
    };
    on_connection(CHECK_LIMIT, connection, checked).await?
}

async fn check_on(connection: &mut PgConnection) -> Result<Warnings, Unusable> {
    let query = sqlx::query(
        "-- health
        select version, compatible_from, current_setting('transaction_isolation') as isolation,
            not current_setting('transaction_read_only')::boolean as writable,
            current_setting('server_encoding') as encoding,
            current_setting('fsync')::boolean as fsync,
            current_setting('full_page_writes')::boolean as full_page_writes,
            current_setting('synchronous_commit') <> 'off' as synchronous_commit,
            array(
                select f.name from unnest($1::text[]) as f (name)
                left join pg_proc p on p.proname = f.name and pg_function_is_visible(p.oid)
                where p.oid is null
            ) as missing
        from schema_version",
    )
    .bind(migrate::function_names());
    let needed = needed();
    match fetch::<Found>(&mut *connection, query).await {
        Ok(found) => match found.first() {
            Some(found) => judge(found, needed),
            None => Err(Unusable::Older { there: 0, needed }),
        },
        Err(error) if error.is_undefined_table() => {
            let unreleased: Vec<(bool,)> =
                fetch(connection, sqlx::query(migrate::UNRELEASED)).await?;
            match unreleased.first() {
                Some((true,)) => Err(Unusable::Unreleased),
                _ => Err(Unusable::Older { there: 0, needed }),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn judge(found: &Found, needed: i64) -> Result<Warnings, Unusable> {
    if !found.writable {
        return Err(Unusable::ReadOnly);
    }
    let (there, compatible_from) = (found.version.into(), found.compatible_from.into());
    if there < needed {
        return Err(Unusable::Older { there, needed });
    }
    if compatible_from > needed {
        return Err(Unusable::Newer {
            there,
            compatible_from,
            needed,
        });
    }
    if !found.missing.is_empty() {
        let missing = found.missing.join(", ");
        return Err(Unusable::HalfMigrated { there, missing });
    }
    if found.isolation != ISOLATION {
        return Err(Unusable::Isolation(found.isolation.clone()));
    }
    if found.encoding != "UTF8" {
        return Err(Unusable::Encoding(found.encoding.clone()));
    }
    Ok(warnings(found))
}

fn warnings(found: &Found) -> Warnings {
    let settings = [
        (
            found.fsync,
            "fsync is off: a crash of the machine can destroy the database. Set fsync = on",
        ),
        (
            found.full_page_writes,
            "full_page_writes is off: a crash of the machine can destroy the database. Set full_page_writes = on",
        ),
        (
            found.synchronous_commit,
            "synchronous_commit is off: a crash can lose acknowledged answers. Behind PgBouncer: alter role … set \
             synchronous_commit = on",
        ),
    ];
    let weak = settings.into_iter().filter(|(sound, _)| !sound);
    weak.map(|(_, warning)| warning).collect()
}

/// What to do about missing functions.
#[derive(Clone, Copy, PartialEq)]
pub enum Functions {
    /// Install them if the schema was created by hand.
    Install,
    /// Wait until somebody installs them.
    Await,
}

/// Returns once the database can be used. Until then it logs the reason, once per reason and cause, and calls
/// `failed` after each failed check.
pub async fn wait_until_usable(pool: &PgPool, functions: Functions, failed: impl Fn()) {
    let mut told = (String::new(), HashSet::new());
    let warnings = loop {
        let unusable = match check(pool).await {
            Ok(warnings) => break warnings,
            Err(unusable) => unusable,
        };
        let mut cause = unusable.cause().map(str::to_owned);
        let incomplete = matches!(
            unusable,
            Unusable::HalfMigrated { .. } | Unusable::Older { .. }
        );
        if incomplete && functions == Functions::Install {
            match migrate::install_by_hand(pool).await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(
                        count,
                        "the schema was made by hand: installed its functions"
                    );
                    continue;
                }
                Err(error) => cause = Some(format!("cannot install what is missing: {error:#}")),
            }
        }
        failed();
        let reason = unusable.to_string();
        if told.0 != reason {
            told = (reason, HashSet::new());
        }
        // An outage has several alternating causes, such as a refused connection and a broken one. Log each once.
        if told.1.insert(cause.clone()) {
            tracing::warn!(cause, "cannot work: {unusable}");
        }
        sleep(LOOK_EVERY).await;
    };
    if !told.0.is_empty() {
        tracing::info!("PostgreSQL can be used now");
    }
    for warning in warnings {
        tracing::warn!("PostgreSQL: {warning}");
    }
}

/// Looks every second for ever, and logs when the database cannot be used any more, and when it can again.
pub async fn watch(pool: &PgPool, functions: Functions) {
    loop {
        wait_until_usable(pool, functions, || {}).await;
        while check(pool).await.is_ok() {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// As [`wait_until_usable`] without logging, for background work: the process's main work already logs its wait.
pub async fn until_usable(pool: &PgPool) {
    while check(pool).await.is_err() {
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(version: i32, compatible_from: i32, needed: i64) -> Result<Warnings, Unusable> {
        let found = Found {
            version,
            compatible_from,
            isolation: ISOLATION.to_owned(),
            writable: true,
            encoding: "UTF8".to_owned(),
            fsync: true,
            full_page_writes: true,
            synchronous_commit: true,
            missing: Vec::new(),
        };
        judge(&found, needed)
    }

    #[test]
    fn a_newer_schema_is_used_as_long_as_it_is_compatible() {
        assert_eq!(judged(7, 5, 5), Ok(Vec::new()));
        assert_eq!(judged(7, 5, 7), Ok(Vec::new()));
        assert_eq!(
            judged(7, 6, 5),
            Err(Unusable::Newer {
                there: 7,
                compatible_from: 6,
                needed: 5
            })
        );
    }

    #[test]
    fn an_older_schema_is_not_used() {
        let unusable = judged(4, 1, 5).expect_err("older");
        assert_eq!(
            unusable.to_string(),
            "schema is at 4, this program needs 5: run flashsale-api migrate"
        );
    }
}
