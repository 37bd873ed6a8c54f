//! Checks whether this program can work with the database: schema version, functions and isolation level.

mod unusable;

use std::{collections::HashSet, time::Duration};

use sqlx::{FromRow, PgConnection, PgPool};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    database::{CHECK_LIMIT, CONNECT_LIMIT, connect_beside, fetch, on_connection, was_read_only},
    id_epoch, migrate,
    server::stalled_commit_seconds,
};
use unusable::COMMITS_WAIT;

pub use unusable::Unusable;

/// Time limit for a connection from the pool. Shorter than the pool's own, so that the rest of a health check's time is
/// enough to find out why there is none.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(1);

/// Interval between checks while the database cannot be used.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause of [`check_within`].
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Commits that have waited for a standby for this long cause a warning. This process is not ready after
/// [`STALLED_SECONDS`].
const SLOW_COMMIT_SECONDS: f64 = 2.0;

/// After this time the next call of a waiting product has given up its lock wait (`sql/reserve.sql`), so no write is
/// answered any more. A commit that waits keeps waiting after its client has gone, so this lasts as long as the stall.
const STALLED_SECONDS: f64 = 5.0;

/// The only isolation level at which a statement sees the changes of the previous holder of its lock.
pub(crate) const ISOLATION: &str = "read committed";

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
    stalled_commit_seconds: f64,
    can_replicate: bool,
    missing: Vec<String>,
}

/// Settings of PostgreSQL that weaken a guarantee, as texts for people.
pub type Warnings = Vec<&'static str>;

/// A database that this program can work with.
#[derive(Debug, PartialEq)]
struct Usable {
    warnings: Warnings,
    /// How long the oldest commit has waited for a standby. PostgreSQL knows only since when the statement runs that
    /// commits, so a long statement of somebody else may count as stalled for one check.
    stalled_commit_seconds: f64,
}

/// The schema version that this program needs: the highest number of its migrations.
fn needed() -> i64 {
    let versions = migrate::NUMBERED.iter().map(|migration| migration.version);
    versions.max().unwrap_or(0)
}

/// Fails unless PostgreSQL answers, can be written to, and has a schema that this program can work with. Any role of
/// this service may call it.
pub async fn check(pool: &PgPool) -> Result<Warnings, Unusable> {
    Ok(usable(pool).await?.warnings)
}

/// As [`check`], for `/readyz`: also fails while commits wait for a standby, because a process that is ready answers
/// writes. Programs that start, and commands, need no commit that is answered.
pub async fn ready(pool: &PgPool) -> Result<Warnings, Unusable> {
    let usable = usable(pool).await?;
    match usable.stalled_commit_seconds > STALLED_SECONDS {
        true => Err(Unusable::CommitsWait),
        false => Ok(usable.warnings),
    }
}

async fn usable(pool: &PgPool) -> Result<Usable, Unusable> {
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
    on_connection(CHECK_LIMIT, pool.into(), connection, checked).await?
}

/// As [`check`], but asks a server that does not answer again, for this long: it may be starting, or busy. For commands.
pub async fn check_within(pool: &PgPool, limit: Duration) -> Result<Warnings, Unusable> {
    let since = Instant::now();
    loop {
        match check(pool).await {
            Err(Unusable::NoAnswer(_)) if since.elapsed() < limit => sleep(ASK_AGAIN_AFTER).await,
            checked => return checked,
        }
    }
}

async fn check_on(connection: &mut PgConnection) -> Result<Usable, Unusable> {
    let query = sqlx::query(concat!(
        "-- health
        select version, compatible_from, current_setting('transaction_isolation') as isolation,
            not current_setting('transaction_read_only')::boolean as writable,
            current_setting('server_encoding') as encoding,
            current_setting('fsync')::boolean as fsync,
            current_setting('full_page_writes')::boolean as full_page_writes,
            current_setting('synchronous_commit') <> 'off' as synchronous_commit,
            ",
        stalled_commit_seconds!(),
        ",
            current_setting('synchronous_standby_names') = '' or exists (select from pg_stat_replication)
                as can_replicate,
            array(
                select f.name from unnest($1::text[]) as f (name)
                left join (
                    -- By name, through the index: a new session needs 80 ms to look up all 3,300 functions.
                    select p.proname from pg_proc p
                    where p.proname = any($1::text[]) and pg_function_is_visible(p.oid)
                ) p on p.proname = f.name
                where p.proname is null
            ) as missing
        from schema_version"
    ))
    .bind(migrate::function_names());
    let needed = needed();
    match fetch::<Found>(&mut *connection, query).await {
        Ok(found) => {
            let found = found.first();
            let usable = evaluate(found.ok_or(Unusable::Older { there: 0, needed })?, needed)?;
            // Each session of the pool has done this. One that cannot never gets into the pool, so this says why.
            let advanced = id_epoch::advance(connection).await;
            advanced.map_err(|error| Unusable::IdsNotAdvanced(error.to_string()))?;
            Ok(usable)
        }
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

fn evaluate(found: &Found, needed: i64) -> Result<Usable, Unusable> {
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
    Ok(Usable {
        warnings: warnings(found),
        stalled_commit_seconds: found.stalled_commit_seconds,
    })
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
        (
            found.can_replicate && found.stalled_commit_seconds <= SLOW_COMMIT_SECONDS,
            COMMITS_WAIT,
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
    let mut log = Log::default();
    while !log.check(pool, functions).await {
        failed();
        sleep(LOOK_EVERY).await;
    }
}

/// Looks every second for ever, and logs when the database cannot be used any more, and when it can again. Also logs
/// warnings that appear, and when they are over.
pub async fn watch(pool: &PgPool, functions: Functions) {
    let mut log = Log::default();
    loop {
        log.check(pool, functions).await;
        sleep(LOOK_EVERY).await;
    }
}

/// Logs what checks find, each condition once.
#[derive(Default)]
struct Log {
    /// The warnings of the last check. `None`: it failed.
    warnings: Option<Warnings>,
    /// Why the last check failed, and the causes of this reason that were logged.
    logged: Option<(String, HashSet<Option<String>>)>,
}

impl Log {
    /// Makes one check, and returns whether the database can be used.
    async fn check(&mut self, pool: &PgPool, functions: Functions) -> bool {
        let mut checked = check(pool).await;
        let mut cause = None;
        if let (Err(Unusable::HalfMigrated { .. } | Unusable::Older { .. }), Functions::Install) =
            (&checked, functions)
        {
            match migrate::install_by_hand(pool).await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(
                        count,
                        "the schema was made by hand: completed it, and installed its functions"
                    );
                    checked = check(pool).await;
                }
                Err(error) => cause = Some(format!("cannot install what is missing: {error:#}")),
            }
        }
        match checked {
            Ok(warnings) => self.usable(warnings),
            Err(unusable) => self.unusable(&unusable, cause),
        }
        self.warnings.is_some()
    }

    fn usable(&mut self, warnings: Warnings) {
        if self.logged.take().is_some() {
            tracing::info!("PostgreSQL can be used now");
        }
        let told = self.warnings.take().unwrap_or_default();
        for warning in warnings.iter().filter(|now| !told.contains(now)) {
            tracing::warn!("PostgreSQL: {warning}");
        }
        for warning in told.iter().filter(|told| !warnings.contains(told)) {
            tracing::info!("PostgreSQL: this is over: {warning}");
        }
        self.warnings = Some(warnings);
    }

    fn unusable(&mut self, unusable: &Unusable, cause: Option<String>) {
        self.warnings = None;
        let reason = unusable.to_string();
        if self
            .logged
            .as_ref()
            .is_none_or(|(logged, _)| *logged != reason)
        {
            self.logged = Some((reason, HashSet::new()));
        }
        let cause = cause.or_else(|| unusable.cause().map(str::to_owned));
        // An outage has several alternating causes, such as a refused connection and a broken one. Log each once.
        if let Some((_, causes)) = &mut self.logged
            && causes.insert(cause.clone())
        {
            tracing::warn!(cause, "cannot work: {unusable}");
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

    /// A database that this program can use, with settings that keep all guarantees.
    fn sound() -> Found {
        Found {
            version: 5,
            compatible_from: 5,
            isolation: ISOLATION.to_owned(),
            writable: true,
            encoding: "UTF8".to_owned(),
            fsync: true,
            full_page_writes: true,
            synchronous_commit: true,
            stalled_commit_seconds: 0.0,
            can_replicate: true,
            missing: Vec::new(),
        }
    }

    fn evaluated(version: i32, compatible_from: i32, needed: i64) -> Result<Warnings, Unusable> {
        let found = Found {
            version,
            compatible_from,
            ..sound()
        };
        warned(&found, needed)
    }

    fn warned(found: &Found, needed: i64) -> Result<Warnings, Unusable> {
        evaluate(found, needed).map(|usable| usable.warnings)
    }

    #[test]
    fn a_newer_schema_is_used_as_long_as_it_is_compatible() {
        assert_eq!(evaluated(7, 5, 5), Ok(Vec::new()));
        assert_eq!(evaluated(7, 5, 7), Ok(Vec::new()));
        assert_eq!(
            evaluated(7, 6, 5),
            Err(Unusable::Newer {
                there: 7,
                compatible_from: 6,
                needed: 5
            })
        );
    }

    #[test]
    fn an_older_schema_is_not_used() {
        let unusable = evaluated(4, 1, 5).expect_err("older");
        assert_eq!(
            unusable.to_string(),
            "schema is at 4, this program needs 5: run flashsale-api migrate"
        );
    }

    #[test]
    fn each_setting_that_weakens_a_guarantee_has_its_warning() {
        assert_eq!(warned(&sound(), 5), Ok(Vec::new()));
        type Weaken = fn(&mut Found);
        let weak: [(&str, Weaken); 3] = [
            ("fsync", |found| found.fsync = false),
            ("full_page_writes", |found| found.full_page_writes = false),
            ("synchronous_commit", |found| {
                found.synchronous_commit = false;
            }),
        ];
        let mut all = sound();
        for (setting, weaken) in weak {
            let mut found = sound();
            weaken(&mut found);
            weaken(&mut all);
            let warnings = warned(&found, 5).expect("usable");
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(
                warnings[0].starts_with(&format!("{setting} is off")),
                "{warnings:?}"
            );
        }
        assert_eq!(warned(&all, 5).map(|warnings| warnings.len()), Ok(3));
    }

    #[test]
    fn settings_that_break_a_rule_are_not_used() {
        let read_only = Found {
            writable: false,
            ..sound()
        };
        assert_eq!(evaluate(&read_only, 5), Err(Unusable::ReadOnly));
        for level in ["serializable", "repeatable read"] {
            let isolation = level.to_owned();
            let found = Found {
                isolation: isolation.clone(),
                ..sound()
            };
            assert_eq!(evaluate(&found, 5), Err(Unusable::Isolation(isolation)));
        }
        let encoding = "SQL_ASCII".to_owned();
        let found = Found {
            encoding: encoding.clone(),
            ..sound()
        };
        assert_eq!(evaluate(&found, 5), Err(Unusable::Encoding(encoding)));
    }
}
