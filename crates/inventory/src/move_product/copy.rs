//! Copies of rows that nothing changes while the product is on its way: ended reservations, and answers under keys.

use futures_util::{Stream, StreamExt as _, pin_mut};
use sqlx::PgConnection;

use crate::{ProductId, database::fetch};

/// Rows that are written in one statement.
const ROWS: usize = 2_000;

/// Copies the ended reservations that the new cell does not have, and all that were returned: a sale may have been
/// returned since it was copied. Nothing else changes an ended reservation.
pub(super) async fn ended(
    source: &mut PgConnection,
    target: &mut PgConnection,
    product: ProductId,
) -> anyhow::Result<()> {
    let there = sqlx::query(
        "-- move: which are there
        select coalesce(array_agg(r.id), '{}') from reservations_ended r
        where r.product_id = $1 and r.created_at > '-infinity' -- selects the index",
    );
    let there: Vec<(Vec<i64>,)> = fetch(&mut *target, there.bind(product)).await?;
    let rows = sqlx::query_scalar(
        "-- move: ended reservations
        select to_jsonb(r)::text from reservations_ended r
        where r.product_id = $1 and r.created_at > '-infinity' -- selects the index
            and (r.id <> all($2) or r.status = 'RETURNED')",
    )
    .bind(product)
    .bind(
        there
            .into_iter()
            .next()
            .map(|(ids,)| ids)
            .unwrap_or_default(),
    )
    .fetch(source);
    let insert = "-- move: insert ended reservations
        insert into reservations_ended
        select * from jsonb_populate_recordset(null::reservations_ended, $1::jsonb)
        on conflict (id) do update set status = excluded.status, returned_at = excluded.returned_at";
    copy(rows, target, insert).await
}

/// Copies the answers under idempotency keys that show the product or its reservations, and were stored since this time.
pub(super) async fn keys(
    source: &mut PgConnection,
    target: &mut PgConnection,
    product: ProductId,
    since: &str,
) -> anyhow::Result<()> {
    let rows = sqlx::query_scalar(
        "-- move: answers under keys
        select to_jsonb(k)::text from idempotency_keys k
        where k.created_at >= $2::timestamptz and (k.status >= 400) in (true, false) -- selects the index
            and (
                k.body like '%\"product_id\":' || $1 || ',%' or k.body like '{\"id\":' || $1 || ',\"name\":%'
                or k.outcome in ('reserved', 'already_reserved') and (
                    exists (select from reservations_active r where r.id = k.reservation_id and r.product_id = $1)
                    or exists (select from reservations_ended r where r.id = k.reservation_id and r.product_id = $1)
                    or exists (select from moved_reservations r where r.id = k.reservation_id and r.product_id = $1)
                )
            )",
    )
    .bind(product)
    .bind(since)
    .fetch(source);
    let insert = "-- move: insert answers under keys
        insert into idempotency_keys select * from jsonb_populate_recordset(null::idempotency_keys, $1::jsonb)
        on conflict (key, client) do nothing";
    copy(rows, target, insert).await
}

/// Copies rows, each as a JSON object.
async fn copy(
    rows: impl Stream<Item = Result<String, sqlx::Error>>,
    target: &mut PgConnection,
    insert: &'static str,
) -> anyhow::Result<()> {
    let chunks = rows.chunks(ROWS);
    pin_mut!(chunks);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.into_iter().collect::<Result<Vec<_>, _>>()?;
        let array = format!("[{}]", chunk.join(","));
        sqlx::query(insert)
            .bind(array)
            .execute(&mut *target)
            .await?;
    }
    Ok(())
}
