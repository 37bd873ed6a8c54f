//! The heartbeats of running processes.

#![allow(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "the rules for the service's own code: a test reads as one story"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use presence::{self, Counts, Report, Role};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

fn report() -> Report {
    Report {
        version: "1.2.3".to_owned(),
        counts: Counts {
            reserved: 7,
            ..Counts::default()
        },
        ..Report::default()
    }
}

/// Announces a process until it is visible. Returns its instance.
async fn comes_and_goes(pool: &PgPool, role: Role) -> String {
    let stop = CancellationToken::new();
    let announced = presence::announce(pool, role, async || report(), &stop);
    let watched = async {
        loop {
            let (_, seen) = presence::instances(pool).await.unwrap();
            if let Some(seen) = seen.iter().find(|seen| seen.role == role) {
                assert_eq!(seen.report.version, "1.2.3");
                assert_eq!(seen.report.counts.reserved, 7);
                stop.cancel();
                return seen.instance.clone();
            }
        }
    };
    tokio::join!(announced, watched).1
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_process_is_there_until_it_stops(pool: PgPool) {
    let (_, seen) = presence::instances(&pool).await.unwrap();
    assert!(seen.is_empty());
    for role in [Role::Api, Role::Expirer, Role::Relay] {
        comes_and_goes(&pool, role).await;
        let (_, seen) = presence::instances(&pool).await.unwrap();
        assert!(seen.is_empty(), "{seen:?}");
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn who_was_silent_for_ten_minutes_is_forgotten(pool: PgPool) {
    sqlx::raw_sql(
        "insert into processes (instance, role, started_at, seen_at, report) values
        ('lost', 'expirer', now(), clock_timestamp() - interval '9 min', '{}'),
        ('long lost', 'expirer', now(), clock_timestamp() - interval '11 min', '{}')",
    )
    .execute(&pool)
    .await
    .unwrap();
    comes_and_goes(&pool, Role::Relay).await;
    let (_, seen) = presence::instances(&pool).await.unwrap();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].instance, "lost");
    assert!(seen[0].silent > Duration::from_secs(500));
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_another_release_says_is_read_as_far_as_it_can_be(pool: PgPool) {
    sqlx::raw_sql(
        r#"insert into processes (instance, role, started_at, report) values
        ('a', 'api', now(), '{"version": "9", "weather": "fine", "counts": {"reserved": 1, "eaten": 2}}'),
        ('b', 'api', now(), '{"version": "9", "counts": "many"}')"#,
    )
    .execute(&pool)
    .await
    .unwrap();
    let (_, seen) = presence::instances(&pool).await.unwrap();
    let told: Vec<_> = seen
        .iter()
        .map(|seen| (&*seen.report.version, seen.report.counts.reserved))
        .collect();
    // The second report is unreadable, but the process is listed.
    assert_eq!(told, [("9", 1), ("", 0)]);
}

/// A heartbeat that PostgreSQL writes slowly, while the process is told to stop.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_process_that_stops_while_it_writes_is_gone_afterwards(pool: PgPool) {
    sqlx::raw_sql(
        "create function write_slowly() returns trigger language plpgsql as
            $$ begin perform pg_sleep(0.3); return new; end $$;
        create trigger slow before insert on processes for each row execute function write_slowly()",
    )
    .execute(&pool)
    .await
    .unwrap();
    let writes = async || {
        let writes = "select count(*) from pg_stat_activity
            where datname = current_database() and query like '-- presence beat%' and state = 'active'";
        let writes: i64 = sqlx::query_scalar(writes).fetch_one(&pool).await.unwrap();
        writes > 0
    };
    let stop = CancellationToken::new();
    let announced = presence::announce(&pool, Role::Relay, async || report(), &stop);
    let stopped = async {
        while !writes().await {}
        stop.cancel();
    };
    tokio::join!(announced, stopped);
    while writes().await {}
    let (_, seen) = presence::instances(&pool).await.unwrap();
    assert!(seen.is_empty(), "{seen:?}");
}
