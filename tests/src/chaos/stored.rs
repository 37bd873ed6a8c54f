//! Reads the final content of the database.

use serde_json::Value;
use sqlx::{PgPool, Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{
    clock::{micros, now},
    history::{Adjustment, Entry, EntryStatus, Event, Hold, Product, Status, Stored},
    parse::told,
};

pub(crate) async fn read(pool: &PgPool) -> anyhow::Result<Stored> {
    let products = sqlx::query(
        "-- chaos: products
        select id, stock::bigint, held::bigint, sold::bigint, total::bigint,
            hold_seconds::bigint, max_per_user::bigint, waiting::bigint from products",
    )
    .try_map(product)
    .fetch_all(pool)
    .await?;
    let holds = sqlx::query(
        "-- chaos: reservations
        select id, product_id, user_id, quantity::bigint, status, created_at, expires_at,
            coalesce(returned_at, confirmed_at, canceled_at, expired_at) as ended_at, confirmed_at,
            reacquired_from, reference from reservations",
    )
    .try_map(hold)
    .fetch_all(pool)
    .await?;
    let adjustments = sqlx::query(
        "-- chaos: ledger
        select id, product_id, delta::bigint, reason, created_at from stock_adjustments order by id",
    )
    .try_map(adjustment)
    .fetch_all(pool)
    .await?;
    let entries = sqlx::query(
        "-- chaos: waitlists
        select id, product_id, user_id, quantity::bigint, status, reference, reservation_id, created_at, ended_at
        from waitlist_entries order by id",
    )
    .try_map(entry)
    .fetch_all(pool)
    .await?;
    let events = sqlx::query(
        "-- chaos: outbox
        select event_id::text, event_type, payload, published_at, dead_at is not null as dead from outbox_events",
    )
    .try_map(event)
    .fetch_all(pool)
    .await?;
    let names: Vec<(i64, String)> =
        sqlx::query_as("-- chaos: names of products\nselect id, name from products")
            .fetch_all(pool)
            .await?;
    Ok(Stored {
        read: now(),
        products,
        names: names.into_iter().collect(),
        holds,
        adjustments,
        entries,
        events,
        timers: Vec::new(),
    })
}

fn product(row: PgRow) -> sqlx::Result<Product> {
    Ok(Product {
        id: row.try_get("id")?,
        stock: row.try_get("stock")?,
        held: row.try_get("held")?,
        sold: row.try_get("sold")?,
        total: row.try_get("total")?,
        hold_seconds: row.try_get("hold_seconds")?,
        max_per_user: row.try_get("max_per_user")?,
        waiting: row.try_get("waiting")?,
    })
}

fn hold(row: PgRow) -> sqlx::Result<Hold> {
    let status: String = row.try_get("status")?;
    let time = |name| row.try_get::<OffsetDateTime, _>(name).map(micros);
    let end = |name| {
        let time = row.try_get::<Option<OffsetDateTime>, _>(name);
        time.map(|time| time.map(micros))
    };
    Ok(Hold {
        id: row.try_get("id")?,
        product: row.try_get("product_id")?,
        user: row.try_get("user_id")?,
        quantity: row.try_get("quantity")?,
        status: Status::parse(&status).ok_or_else(|| sqlx::Error::Decode(status.into()))?,
        created: time("created_at")?,
        expires: time("expires_at")?,
        ended: end("ended_at")?,
        confirmed: end("confirmed_at")?,
        reacquired_from: row.try_get("reacquired_from")?,
        reference: row.try_get("reference")?,
    })
}

fn adjustment(row: PgRow) -> sqlx::Result<Adjustment> {
    Ok(Adjustment {
        id: row.try_get("id")?,
        product: row.try_get("product_id")?,
        delta: row.try_get("delta")?,
        reason: row.try_get("reason")?,
        at: micros(row.try_get("created_at")?),
    })
}

fn entry(row: PgRow) -> sqlx::Result<Entry> {
    let status: String = row.try_get("status")?;
    let ended: Option<OffsetDateTime> = row.try_get("ended_at")?;
    Ok(Entry {
        id: row.try_get("id")?,
        product: row.try_get("product_id")?,
        user: row.try_get("user_id")?,
        quantity: row.try_get("quantity")?,
        status: EntryStatus::parse(&status).ok_or_else(|| sqlx::Error::Decode(status.into()))?,
        reference: row.try_get("reference")?,
        hold: row.try_get("reservation_id")?,
        created: micros(row.try_get("created_at")?),
        ended: ended.map(micros),
    })
}

fn event(row: PgRow) -> sqlx::Result<Event> {
    let published_at: Option<OffsetDateTime> = row.try_get("published_at")?;
    Ok(Event {
        id: row.try_get("event_id")?,
        told: told(
            row.try_get("event_type")?,
            &row.try_get::<Value, _>("payload")?,
        ),
        published_at: published_at.map(micros),
        dead: row.try_get("dead")?,
    })
}
