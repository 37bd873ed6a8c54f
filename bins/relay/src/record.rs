//! Transactions that record outcomes.

use std::collections::HashSet;

use inventory::{Error, outbox};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    confirms::Fate,
    flight::{Due, RowOutcome},
};

/// Outcomes that one transaction has recorded.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) published: usize,
    pub(crate) returned: usize,
    pub(crate) queue_rejected: usize,
    pub(crate) refused: usize,
    /// The new dead letters.
    pub(crate) dead: Vec<Uuid>,
}

/// Result of a transaction for leased rows.
pub(crate) struct Done {
    /// The rows that still had their lease.
    pub(crate) ours: HashSet<i64>,
    /// Those whose outcome was recorded.
    pub(crate) decided: Vec<RowOutcome>,
    pub(crate) recorded: Recorded,
    /// The new lease of the waiting rows.
    pub(crate) until: Option<OffsetDateTime>,
}

/// One transaction for leased rows. What is no longer ours is left alone.
pub(crate) async fn record_due(
    connection: &mut PgConnection,
    due: &Due,
    why: &str,
    max_attempts: i32,
) -> Result<Done, Error> {
    let mut transaction = outbox::begin(connection).await?;
    let ours = outbox::relock(&mut transaction, &due.ids(), &due.leases).await?;
    let ours: HashSet<i64> = ours.into_iter().collect();
    let mut decided = due.decided.clone();
    decided.retain(|row| ours.contains(&row.id));
    let recorded = record(&mut transaction, &decided, max_attempts).await?;
    let of_ours = |ids: &[i64]| -> Vec<i64> {
        let ids = ids.iter().copied();
        ids.filter(|id| ours.contains(id)).collect()
    };
    let (given_up, waiting) = (of_ours(&due.given_up), of_ours(&due.waiting));
    if !given_up.is_empty() {
        outbox::back_off(&mut transaction, &given_up, why).await?;
    }
    let mut until = None;
    if !waiting.is_empty() {
        until = outbox::lease(&mut transaction, &waiting, due.lease_lasts, why).await?;
    }
    transaction.commit().await?;
    Ok(Done {
        ours,
        decided,
        recorded,
        until,
    })
}

/// Records outcomes of rows that the transaction has locked.
pub(crate) async fn record(
    transaction: &mut PgConnection,
    decided: &[RowOutcome],
    max_attempts: i32,
) -> Result<Recorded, Error> {
    let ids = |fate| -> Vec<i64> {
        let met = decided.iter().filter(|row| row.fate == fate);
        met.map(|row| row.id).collect()
    };
    let (published, returned) = (ids(Fate::Acked), ids(Fate::Returned));
    let queue_rejected = ids(Fate::QueueRejected);
    let refused: Vec<_> = ids(Fate::Refused)
        .into_iter()
        .map(|id| (id, "refused by the broker, alone".to_owned()))
        .collect();
    if !published.is_empty() {
        outbox::publish(transaction, &published).await?;
    }
    for (ids, why) in [
        (&returned, "unroutable: no queue is bound"),
        (&queue_rejected, "refused by the broker, and not alone"),
    ] {
        if !ids.is_empty() {
            outbox::back_off(transaction, ids, why).await?;
        }
    }
    let mut dead = Vec::new();
    if !refused.is_empty() {
        dead = outbox::refuse(transaction, &refused, max_attempts).await?;
    }
    Ok(Recorded {
        published: published.len(),
        returned: returned.len(),
        queue_rejected: queue_rejected.len(),
        refused: refused.len(),
        dead,
    })
}

#[cfg(test)]
mod tests {
    use lapin::types::ShortString;
    use sqlx::PgPool;
    use tokio::time::Instant;

    use super::*;
    use crate::flight::{Flight, Row};

    /// Another relay has taken the first three rows, published them, and they were replayed.
    #[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
    async fn nothing_is_recorded_for_rows_that_are_not_ours_any_more(pool: PgPool) {
        let mut connection = pool.acquire().await.expect("a connection");
        sqlx::raw_sql(
            "insert into outbox_events (event_type, payload) select 'x', '{}' from generate_series(1, 4)",
        )
        .execute(&mut *connection)
        .await
        .expect("events");
        let (mut flight, now) = (Flight::default(), Instant::now());
        let mut transaction = outbox::begin(&mut connection).await.expect("begin");
        let rows = outbox::claim(&mut transaction, 9).await.expect("claim");
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let key = ShortString::from("a");
        let rows = rows
            .iter()
            .map(|row| Row::new(row.id, row.created_at, key.clone()));
        flight.push(0, rows.collect(), now);
        let until = outbox::lease(&mut transaction, &ids, outbox::LEASE, "sent").await;
        transaction.commit().await.expect("commit");
        let until = until.expect("lease").expect("rows");
        flight.lease_newest(&[], until, now);
        flight.settle(&[(0, Fate::Acked), (1, Fate::Returned)]);

        sqlx::raw_sql(
            "update outbox_events set next_attempt_at = 'infinity', last_error = null where id < 4",
        )
        .execute(&mut *connection)
        .await
        .expect("replay");
        let mut due = flight.due(now + outbox::LEASE);
        // One more way for an outcome to be recorded.
        due.given_up.push(ids[2]);
        due.waiting.retain(|id| *id != ids[2]);
        assert_eq!((due.decided.len(), &due.waiting[..]), (2, &ids[3..]));
        let done = record_due(&mut connection, &due, "late", 1)
            .await
            .expect("recorded");
        assert_eq!(done.ours, HashSet::from([ids[3]]));
        assert_eq!((done.recorded.published, done.recorded.returned), (0, 0));
        let changed = "select id from outbox_events where published_at is not null or attempts > 0
            or next_attempt_at < 'infinity' or last_error is not null";
        let changed: Vec<i64> = sqlx::query_scalar(changed)
            .fetch_all(&mut *connection)
            .await
            .expect("rows");
        assert_eq!(changed, ids[3..]);
    }
}
