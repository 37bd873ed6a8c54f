//! Ids are advanced when the database has a new timeline or was restored, before the first one is given out.

use std::collections::HashSet;

use inventory::{
    Error,
    compatibility::{self, Unusable},
    database, id_epoch,
    migrate::migrate,
    product::{self, NewProduct, Policy},
    reserve,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgPool};

use crate::support::{HOLD_SECONDS, Shop, one};

/// What a restore or failover skips at least.
const GAP: i64 = 10_000_000_000;

/// The random part of what it skips is below this.
const RANDOM_GAP: i64 = 100_000_000_000;

/// The largest integer of JSON that every parser reads exactly.
const LARGEST: i64 = 9_007_199_254_740_991;

/// A pool as the processes have it. It advances the ids when it opens a session.
fn service(pool: &PgPool) -> PgPool {
    let args = database::Args {
        database_url: pool.connect_options().to_url_lossy().to_string(),
        database_max_connections: 1,
        database_acquire_milliseconds: 60_000,
    };
    database::connect(&args, "rules").unwrap()
}

async fn opens_a_session(pool: &PgPool) -> PgPool {
    let service = service(pool);
    drop(service.acquire().await.unwrap());
    service
}

async fn execute(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

/// The sequences of the schema, and the last value of each.
async fn sequences(pool: &PgPool) -> Vec<(String, i64)> {
    sqlx::query_as(
        "select sequencename::text, coalesce(last_value, 0) from pg_sequences
        where schemaname = current_schema() order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Each of these sequences was advanced once.
fn assert_advanced(before: &[(String, i64)], now: &[(String, i64)]) {
    assert_eq!(before.len(), now.len());
    for ((name, last), (same, next)) in before.iter().zip(now) {
        assert_eq!(name, same);
        let gap = next - last;
        assert!((GAP..GAP + RANDOM_GAP).contains(&gap), "{name}: {gap}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_new_database_begins_with_one(pool: PgPool) {
    migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
    let shop = Shop::new(opens_a_session(&pool).await);
    let product = shop.product(9).await;
    assert_eq!(product.get(), 1);
    assert_eq!(shop.hold(product, 1).await.id.get(), 1);
    opens_a_session(&pool).await;
    assert_eq!(shop.hold(product, 2).await.id.get(), 2);
}

/// Each of these is different after some kind of restore: a point-in-time recovery or promotion, another server, a copy
/// of the database, and a dump.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn whatever_moved_the_database_every_sequence_is_advanced_once(pool: PgPool) {
    let shop = Shop::new(opens_a_session(&pool).await);
    let product = shop.product(9).await;
    // With a cache, a session has drawn ids that it has not given out.
    execute(&pool, "alter sequence reservations_id_seq cache 50").await;
    shop.hold(product, 1).await;
    for (user, column) in ["system_identifier", "timeline", "database_oid", "table_oid"]
        .iter()
        .enumerate()
    {
        let before = sequences(&pool).await;
        assert!(before.len() >= 4, "{before:?}");
        execute(
            &pool,
            &format!("update id_epoch set {column} = {column} + 1"),
        )
        .await;
        let service = opens_a_session(&pool).await;
        let now = sequences(&pool).await;
        assert_advanced(&before, &now);
        let last = now.iter().find(|(name, _)| name == "reservations_id_seq");
        let shop = Shop::new(service.clone());
        let id = shop.hold(product, 2 + user as i64).await.id.get();
        assert_eq!(id, last.unwrap().1 + 1, "{column}");
        // The record is right again.
        let before = sequences(&pool).await;
        opens_a_session(&pool).await;
        assert_eq!(sequences(&pool).await, before, "{column}, a second session");
    }
}

/// The record and the ids of a database that was migrated only after it was restored.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_database_without_a_record_that_has_given_out_ids_is_advanced(pool: PgPool) {
    // This session is not the service's.
    let shop = Shop::new(pool.clone());
    shop.product(9).await;
    let before = sequences(&pool).await;
    opens_a_session(&pool).await;
    let now = sequences(&pool).await;
    // A sequence that was never used has nothing to skip.
    let is_used = |(_, last): &(String, i64)| *last > 0;
    let [used, used_now] =
        [before, now].map(|all| all.into_iter().filter(is_used).collect::<Vec<_>>());
    assert_eq!(used.len(), 1, "{used:?}");
    assert_advanced(&used, &used_now);
}

/// The same backup is restored twice: the first time was to a wrong moment, or each time makes one copy. Clients who know
/// ids of the first run must not meet them in the second one.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn two_restores_of_the_same_backup_give_out_different_ids(pool: PgPool) {
    let shop = Shop::new(opens_a_session(&pool).await);
    let product = shop.product(9).await;
    shop.hold(product, 1).await;
    let backup = sequences(&pool).await;
    execute(&pool, "create table backup as table id_epoch").await;
    let mut given_out = HashSet::new();
    for run in 0..6_usize {
        for (name, last) in &backup {
            // 0: it was not used.
            let set = format!("select setval('{name}', {}, {})", last.max(&1), *last > 0);
            execute(&pool, &set).await;
        }
        let record = "delete from id_epoch; insert into id_epoch select * from backup;";
        if run % 2 == 0 {
            // PostgreSQL has another timeline then.
            execute(
                &pool,
                &format!("{record} update id_epoch set timeline = timeline + 1"),
            )
            .await;
        } else {
            execute(&pool, record).await;
            id_epoch::advance_always(&pool).await.unwrap();
        }
        let service = opens_a_session(&pool).await;
        for (name, _) in &backup {
            for _ in 0..3 {
                let next = format!("select nextval('{name}')");
                let id: i64 = sqlx::query_scalar(AssertSqlSafe(next))
                    .fetch_one(&service)
                    .await
                    .unwrap();
                assert!(
                    given_out.insert((name.clone(), id)),
                    "run {run}: {name} {id}"
                );
            }
        }
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn many_sessions_that_start_at_once_advance_once(pool: PgPool) {
    let shop = Shop::new(opens_a_session(&pool).await);
    shop.product(9).await;
    let before = sequences(&pool).await;
    execute(&pool, "update id_epoch set timeline = 7").await;
    execute(
        &pool,
        "create table advances (at timestamptz default clock_timestamp());
        create function advances() returns trigger language plpgsql as $$
        begin
            insert into advances default values;
            return null;
        end
        $$;
        create trigger advances after update on id_epoch for each row execute function advances()",
    )
    .await;
    // They all meet the record before one of them has changed it.
    let mut gate = pool.begin().await.unwrap();
    sqlx::query("select from id_epoch for update")
        .execute(&mut *gate)
        .await
        .unwrap();
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let service = service(&pool);
            tokio::spawn(async move { drop(service.acquire().await.unwrap()) })
        })
        .collect();
    let waiting: Vec<_> = starts.iter().map(|start| start.abort_handle()).collect();
    shop.until_waiting(&waiting).await;
    gate.rollback().await.unwrap();
    for start in starts {
        start.await.unwrap();
    }
    assert_advanced(&before, &sequences(&pool).await);
    assert_eq!(shop.count("select count(*) from advances").await, 1);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn ids_stay_exact_in_json_and_within_their_sequence(pool: PgPool) {
    opens_a_session(&pool).await;
    execute(&pool, "create sequence small as smallint").await;
    for (sequence, last, largest) in [
        ("products_id_seq", LARGEST - 1001, LARGEST),
        ("products_id_seq", LARGEST, LARGEST),
        ("small", 30_000, 32_767),
    ] {
        let set = format!("select setval('{sequence}', {last}); update id_epoch set timeline = 0");
        execute(&pool, &set).await;
        opens_a_session(&pool).await;
        let now = sequences(&pool).await;
        let (_, now) = now.iter().find(|(name, _)| name == sequence).unwrap();
        assert_eq!(*now, last + (largest - last) / 2, "{sequence}");
    }
}

/// A session that cannot advance the ids is never used, and the process says why.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn without_the_advance_nothing_is_given_out(pool: PgPool) {
    let shop = Shop::new(opens_a_session(&pool).await);
    let product = shop.product(9).await;
    execute(&pool, "update id_epoch set timeline = 0").await;
    // For example a lock that somebody keeps, or a right that is missing.
    execute(&pool, "alter table id_epoch rename to away").await;
    let args = database::Args {
        database_url: pool.connect_options().to_url_lossy().to_string(),
        database_max_connections: 1,
        // On a slow machine, a session that is not refused must be open within this time.
        database_acquire_milliseconds: 5_000,
    };
    let service = database::connect(&args, "rules").unwrap();
    let reserved = reserve::reserve(&service, &[one(product, 1)], HOLD_SECONDS, &shop.events).await;
    assert!(matches!(reserved, Err(Error::NotDone(_))), "{reserved:?}");
    let new = NewProduct::new("iPhone 16".to_owned(), 1, Policy::default()).unwrap();
    let created = product::create(&service, &new).await;
    assert!(matches!(created, Err(Error::NotDone(_))), "{created:?}");
    let unusable = compatibility::check(&service).await.unwrap_err();
    assert!(
        matches!(unusable, Unusable::IdsNotAdvanced(_)),
        "{unusable:?}"
    );

    execute(&pool, "alter table away rename to id_epoch").await;
    compatibility::check(&service).await.unwrap();
    let shop = Shop::new(service);
    assert!(shop.hold(product, 1).await.id.get() > GAP);
}

/// The function has its owner's rights. A caller must not make it work on other tables.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn temporary_tables_of_the_caller_are_not_used(pool: PgPool) {
    let shop = Shop::new(opens_a_session(&pool).await);
    shop.product(9).await;
    let before = sequences(&pool).await;
    execute(&pool, "update id_epoch set timeline = 0").await;
    let mut session = pool.acquire().await.unwrap();
    sqlx::raw_sql(
        "create temp table id_epoch as table id_epoch;
        create temp table pg_sequence as select s.* from pg_catalog.pg_sequence s where false;
        create temp table pg_database as select d.* from pg_catalog.pg_database d where false;
        select advance_ids_v1()",
    )
    .execute(&mut *session)
    .await
    .unwrap();
    assert_advanced(&before, &sequences(&pool).await);
    let record: i32 = sqlx::query_scalar("select timeline from pg_temp.id_epoch")
        .fetch_one(&mut *session)
        .await
        .unwrap();
    assert_eq!(record, 0);
}

/// A snapshot of the disk has the same timeline. Only an operator knows that it was restored.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_operator_advances_them_always(pool: PgPool) {
    let shop = Shop::new(opens_a_session(&pool).await);
    shop.product(9).await;
    for _ in 0..2 {
        let before = sequences(&pool).await;
        id_epoch::advance_always(&pool).await.unwrap();
        let now = sequences(&pool).await;
        assert_advanced(&before, &now);
        opens_a_session(&pool).await;
        assert_eq!(sequences(&pool).await, now);
    }
}
