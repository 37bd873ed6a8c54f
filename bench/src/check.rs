//! Checks after every round. The figures of a server that oversells, loses acknowledged work or miscounts are
//! worthless.

use anyhow::{bail, ensure};
use redis::aio::MultiplexedConnection;
use serde_json::Value;

use crate::{
    case::{Server, Wanted},
    database::{Database, Products},
    load::Seen,
    metrics::Answers,
    server::{API_CLIENT, Running},
};

/// Maximum number of requests that were done without wrk seeing the answer: those in flight at the end, those with a
/// socket error, and those with an unknown outcome.
pub(crate) fn unseen(connections: u32, seen: &Seen, counted: &Answers) -> u64 {
    u64::from(connections) + seen.socket_errors + counted.unavailable + counted.other
}

/// Number of expected answers. Fails if wrk and the server differ by more than the answers
/// that wrk may have missed.
pub(crate) fn wanted_answers(
    wanted: Wanted,
    seen: &Seen,
    counted: &Answers,
    unseen: u64,
) -> anyhow::Result<u64> {
    let answers = match wanted {
        Wanted::Created | Wanted::Found => seen.requests - seen.refused,
        // wrk cannot distinguish refusals, so the server's other refusals are subtracted.
        Wanted::Conflict => {
            let other_refusals = counted.unavailable + counted.other;
            seen.refused.saturating_sub(other_refusals)
        }
    };
    if wanted == Wanted::Conflict && (counted.created > 0 || seen.refused < seen.requests) {
        bail!("a sold-out product was sold: {counted:?}");
    }
    ensure!(
        answers > 0,
        "no answer was {wanted:?}: wrk saw {seen:?}, the server counted {counted:?}"
    );
    let counted = counted.of(wanted);
    ensure!(
        (answers..=answers + unseen).contains(&counted),
        "wrk saw {answers} answers that were {wanted:?}, the server gave {counted}"
    );
    Ok(answers)
}

/// Compares the answers with the stored rows. `sold` is the expected number of units.
pub(crate) async fn stored(
    server: Server,
    running: &Running,
    database: &Database,
    redis: &mut MultiplexedConnection,
    products: Products,
    sold: Sold,
) -> anyhow::Result<()> {
    match server {
        Server::Noop => Ok(()),
        Server::RedisGate => in_redis(redis, products, sold).await,
        Server::Textbook(_) => without_api(database, products, sold).await,
        Server::Flashsale => {
            in_postgres(database, products, sold).await?;
            clean(&serde_json::from_str(&running.get("/admin/audit").await?)?)
        }
    }
}

/// The same without a process that has an audit.
pub(crate) async fn without_api(
    database: &Database,
    products: Products,
    sold: Sold,
) -> anyhow::Result<()> {
    in_postgres(database, products, sold).await?;
    let audit = inventory::audit::audit(&database.pool).await?;
    clean(&serde_json::to_value(audit)?)
}

/// Every confirmed reservation must have one published event, and no other reservation may have one. Returns their
/// number.
pub(crate) async fn one_event_each(database: &Database) -> anyhow::Result<u64> {
    let (confirmed, wrong, unpublished): (i64, i64, i64) = sqlx::query_as(
        "-- bench: check the events
        select
          count(*) filter (where r.id is not null),
          count(*) filter (where r.id is null or e.events is distinct from 1),
          coalesce(sum(e.unpublished), 0)::bigint
        from (select id from reservations where status = 'CONFIRMED') r
        full join (
          select (payload ->> 'reservation_id')::bigint as id, count(*) as events,
            count(*) filter (where published_at is null) as unpublished
          from outbox_events group by 1
        ) e on e.id = r.id",
    )
    .fetch_one(&database.pool)
    .await?;
    ensure!(
        wrong == 0,
        "{wrong} reservations do not have exactly one event"
    );
    ensure!(unpublished == 0, "{unpublished} events are not published");
    Ok(confirmed.unsigned_abs())
}

/// At least this many answers must be stored under unique keys. Without its key a request would be faster, and the
/// figure would be wrong.
pub(crate) async fn kept_keys(database: &Database, answers: u64) -> anyhow::Result<()> {
    let (kept,): (i64,) =
        sqlx::query_as("-- bench: count the keys\nselect count(*) from idempotency_keys")
            .fetch_one(&database.pool)
            .await?;
    ensure!(
        kept.unsigned_abs() >= answers,
        "{answers} requests had a unique key, but {kept} keys are stored"
    );
    Ok(())
}

/// At least this many requests must have been counted for the API key's client.
pub(crate) async fn known_clients(running: &[&Running], answers: u64) -> anyhow::Result<()> {
    let mut counted = 0;
    for running in running {
        let counter = format!(r#"flashsale_client_requests_total{{client="{API_CLIENT}"}}"#);
        counted += running.counter(&counter).await?;
    }
    ensure!(
        counted >= answers,
        "{answers} requests had an API key, the server counted {counted}"
    );
    Ok(())
}

/// The expected number of sold units.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sold {
    /// At least the 201 answers that wrk saw, and at most those plus the ones that it may have missed.
    Answered { created: u64, unseen: u64 },
    /// Every unit.
    All,
}

impl Sold {
    pub(crate) fn exactly(created: u64) -> Self {
        Self::Answered { created, unseen: 0 }
    }

    fn check(self, units: u64, all: u64) -> anyhow::Result<()> {
        let (least, most) = match self {
            Self::Answered { created, unseen } => (created, created + unseen),
            Self::All => (all, all),
        };
        ensure!(
            units >= least,
            "{units} units are stored as held, but {least} were answered as reserved"
        );
        ensure!(
            units <= most,
            "{units} units are stored as held, but at most {most} were asked for"
        );
        ensure!(units <= all, "oversold: {units} units held of {all}");
        Ok(())
    }
}

async fn in_postgres(database: &Database, products: Products, sold: Sold) -> anyhow::Result<()> {
    let (first, last) = (
        products.first,
        products.first + i64::from(products.count) - 1,
    );
    let (oversold, users_twice, units): (i64, i64, i64) = sqlx::query_as(
        "-- bench: check
        select
          count(*) filter (where p.stock < 0 or r.units > p.total),
          coalesce(sum(r.rows - r.users), 0)::bigint,
          coalesce(sum(r.units), 0)::bigint
        from products p
        left join (
          select product_id, sum(quantity) as units, count(*) as rows, count(distinct user_id) as users
          from reservations
          where product_id between $1 and $2 and status in ('ACTIVE', 'CONFIRMED')
          group by product_id
        ) r on r.product_id = p.id
        where p.id between $1 and $2",
    )
    .bind(first)
    .bind(last)
    .fetch_one(&database.pool)
    .await?;
    ensure!(oversold == 0, "{oversold} products were oversold");
    ensure!(users_twice == 0, "{users_twice} users hold a product twice");
    let all = i64::from(products.stock_each) * i64::from(products.count);
    sold.check(units.unsigned_abs(), all.unsigned_abs())
}

async fn in_redis(
    redis: &mut MultiplexedConnection,
    products: Products,
    sold: Sold,
) -> anyhow::Result<()> {
    let (stock, holders): (i64, u64) = redis::pipe()
        .cmd("GET")
        .arg(format!("stock:{}", products.first))
        .cmd("SCARD")
        .arg(format!("holders:{}", products.first))
        .query_async(redis)
        .await?;
    ensure!(stock >= 0, "the gate in Redis oversold: {stock} units left");
    sold.check(holders, i64::from(products.stock_each).unsigned_abs())
}

fn clean(audit: &Value) -> anyhow::Result<()> {
    ensure!(
        audit["clean"] == Value::Bool(true),
        "the audit found: {}",
        audit["differences"]
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stats::Latency;

    fn seen(requests: u64, refused: u64) -> Seen {
        Seen {
            requests,
            refused,
            socket_errors: 0,
            seconds: 1.0,
            latency: Latency {
                p50_ms: 1.0,
                p99_ms: 1.0,
            },
            cpu_seconds: 1.0,
        }
    }

    fn answers(created: u64, conflict: u64, unavailable: u64) -> Answers {
        Answers {
            created,
            conflict,
            unavailable,
            ..Answers::default()
        }
    }

    #[test]
    fn refusals_are_not_reservations() {
        let wanted = wanted_answers(Wanted::Created, &seen(1000, 300), &answers(705, 0, 300), 10);
        assert_eq!(wanted.expect("consistent"), 700);
        let wanted = wanted_answers(
            Wanted::Conflict,
            &seen(1000, 1000),
            &answers(0, 903, 100),
            10,
        );
        assert_eq!(wanted.expect("consistent"), 900);
        assert!(
            wanted_answers(Wanted::Created, &seen(1000, 1000), &answers(0, 1000, 0), 10).is_err()
        );
    }

    #[test]
    fn wrk_and_the_server_must_agree() {
        let created = Wanted::Created;
        assert!(wanted_answers(created, &seen(1000, 0), &answers(1010, 0, 0), 10).is_ok());
        assert!(wanted_answers(created, &seen(1000, 0), &answers(1011, 0, 0), 10).is_err());
        assert!(wanted_answers(created, &seen(1000, 0), &answers(999, 0, 0), 10).is_err());
        assert!(
            wanted_answers(Wanted::Conflict, &seen(1000, 1000), &answers(1, 999, 0), 10).is_err()
        );
        assert!(
            wanted_answers(Wanted::Conflict, &seen(1000, 999), &answers(0, 999, 0), 10).is_err()
        );
    }

    #[test]
    fn what_was_acknowledged_is_stored_and_little_more() {
        let sold = Sold::Answered {
            created: 100,
            unseen: 10,
        };
        assert!(sold.check(100, 1000).is_ok() && sold.check(110, 1000).is_ok());
        assert!(sold.check(99, 1000).is_err(), "lost");
        assert!(sold.check(111, 1000).is_err(), "made up");
        assert!(sold.check(105, 104).is_err(), "oversold");
        assert!(Sold::All.check(99, 100).is_err());
    }

    #[test]
    fn an_audit_that_is_not_clean_fails() {
        assert!(clean(&json!({"clean": true, "differences": []})).is_ok());
        assert!(clean(&json!({"clean": false, "differences": [{"counter": "held"}]})).is_err());
        assert!(clean(&json!({})).is_err());
    }
}
