//! The outbox: which rows a relay gets, and whose outcome it may record.

use std::time::Duration;

use inventory::outbox::{self, LEASE};
use sqlx::{PgConnection, PgPool};

async fn insert(pool: &PgPool, events: i32) {
    sqlx::query(
        "insert into outbox_events (event_type, payload) select 'ReservationConfirmed', '{}' from generate_series(1, $1)",
    )
    .bind(events)
    .execute(pool)
    .await
    .unwrap();
}

async fn claim(connection: &mut PgConnection) -> Vec<i64> {
    let rows = outbox::claim(connection, 100).await.unwrap();
    rows.iter().map(|row| row.id).collect()
}

async fn published(pool: &PgPool) -> Vec<i64> {
    sqlx::query_scalar("select id from outbox_events where published_at is not null order by id")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_leased_row_is_left_alone_until_the_lease_ends(pool: PgPool) {
    insert(&pool, 2).await;
    let mut connection = pool.acquire().await.unwrap();
    let mut first = outbox::begin(&mut connection).await.unwrap();
    assert_eq!(claim(&mut first).await, [1, 2]);
    let until = outbox::lease(&mut first, &[1], LEASE, "late")
        .await
        .unwrap();
    let ended = outbox::lease(&mut first, &[2], Duration::ZERO, "late").await;
    let (until, ended) = (until.unwrap(), ended.unwrap().unwrap());
    first.commit().await.unwrap();

    let mut other = pool.acquire().await.unwrap();
    let mut other = outbox::begin(&mut other).await.unwrap();
    assert_eq!(claim(&mut other).await, [2]);
    // The other relay is about to publish row 2. Only row 1 is still ours.
    let mut first = outbox::begin(&mut connection).await.unwrap();
    let ours = outbox::relock(&mut first, &[1, 2], &[until, ended]).await;
    assert_eq!(ours.unwrap(), [1]);
    outbox::publish(&mut first, &[1]).await.unwrap();
    first.commit().await.unwrap();
    outbox::publish(&mut other, &[2]).await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(published(&pool).await, [1, 2]);
}

/// Otherwise a confirm that comes very late would mark an event whose replay has not been published.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_replayed_row_is_not_ours_any_more(pool: PgPool) {
    insert(&pool, 1).await;
    let mut connection = pool.acquire().await.unwrap();
    let mut first = outbox::begin(&mut connection).await.unwrap();
    assert_eq!(claim(&mut first).await, [1]);
    let until = outbox::lease(&mut first, &[1], LEASE, "late")
        .await
        .unwrap();
    outbox::publish(&mut first, &[1]).await.unwrap();
    first.commit().await.unwrap();
    let at: time::OffsetDateTime = sqlx::query_scalar("select published_at from outbox_events")
        .fetch_one(&pool)
        .await
        .unwrap();
    let second = time::Duration::SECOND;
    let replayed = outbox::replay((&pool).into(), at - second, at + second).await;
    assert_eq!(replayed.unwrap(), 1);
    let mut first = outbox::begin(&mut connection).await.unwrap();
    let ours = outbox::relock(&mut first, &[1], &[until.unwrap()]).await;
    assert_eq!(ours.unwrap(), [0_i64; 0]);
}

/// A clock that is set back by an hour does the same to rows of every kind.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_time_that_no_retry_can_have_counts_as_ready(pool: PgPool) {
    insert(&pool, 4).await;
    sqlx::query(
        "update outbox_events set next_attempt_at = now() + case id
            when 1 then interval '9 min' when 2 then interval '11 min' when 3 then interval '1 h' else '-1 s' end,
          created_at = created_at + case id when 3 then interval '1 h' else '0' end",
    )
    .execute(&pool)
    .await
    .unwrap();
    let status = outbox::status(&pool).await.unwrap();
    assert_eq!(status.depth, 4);
    assert!(status.oldest_age_seconds > 3_500.0, "{status:?}");
    let mut connection = pool.acquire().await.unwrap();
    let mut transaction = outbox::begin(&mut connection).await.unwrap();
    assert_eq!(claim(&mut transaction).await, [4]);
    let misdated = outbox::claim_misdated(&mut transaction, 100).await.unwrap();
    let misdated: Vec<i64> = misdated.iter().map(|row| row.id).collect();
    assert_eq!(misdated, [2, 3]);
}
