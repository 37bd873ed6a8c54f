//! A storm: all holds of a product fall due in the same second, while clients keep trading.

mod trade;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{NO_REDIS, Peer, Redis, Server, Service, System, eventually};
use trade::{Traded, trade};

/// The size of the planned storm, and a smaller one for variants of the environment.
const ALL: i64 = 100_000;
const MANY: i64 = 20_000;

/// Number of clients that trade during the storm.
const CLIENTS: i64 = 4;

/// Limit of an expirer's resident memory: twice the use of a debug build. An expirer that keeps 100,000 events or
/// holds in memory would exceed it.
const MEMORY_LIMIT_KIB: u64 = 32 * 1024;

const EXPIRED: &str = "flashsale_reservations_expired_total";
const RESUBSCRIBED: &str = r#"flashsale_redis_reconnects_total{purpose="expiries"}"#;

/// One product with all units held. The hold with id `n` belongs to user `n`, and the deadlines are in this order,
/// within a tenth of a second.
struct Storm {
    system: System,
    product: i64,
    holds: i64,
    expirers: Vec<Peer>,
}

impl Storm {
    /// Starts all processes before the storm.
    async fn before(holds: i64, redis_url: &str, expirers: usize) -> Self {
        let system = System::spawn(&[("REDIS_URL", redis_url)]).await;
        let product = system.create_product(holds.try_into().unwrap()).await;
        // The smaller storm takes enough transactions to involve every process.
        let batch_rows = if holds == ALL { "1000" } else { "50" };
        let mut started = Vec::new();
        for _ in 0..expirers {
            let settings = [("EXPIRE_BATCH_ROWS", batch_rows)];
            let mut expirer = Peer::expirer(&system, &settings).await;
            if redis_url != NO_REDIS.1 {
                expirer.child.logs("listening to Redis").await;
            }
            started.push(expirer);
        }
        Self {
            system,
            product,
            holds,
            expirers: started,
        }
    }

    /// Holds every unit until shortly after the start of a coming second. On a slow machine the holds are already due
    /// when they become visible.
    async fn gathers(&self) {
        let insert = "with taken as (
                update products set stock = stock - $2, held = held + $2 where id = $1
            ), soon as (
                select date_trunc('second', clock_timestamp()) + interval '3 s' as t
            )
            insert into reservations (product_id, user_id, expires_at)
            select $1, n, soon.t + interval '100 ms' * n / $2
            from soon, generate_series(1, $2) n order by n";
        sqlx::query(insert)
            .bind(self.product)
            .bind(i32::try_from(self.holds).unwrap())
            .execute(&self.system.database.pool)
            .await
            .unwrap();
        let order = "id = user_id";
        assert_eq!(self.holds_that(order).await, self.holds);
    }

    /// Sets the timer of each hold, as the API does for new holds. A timer that would be late is set to a later time,
    /// because Redis does not announce keys that were set to a past time.
    async fn is_timed(&self, redis: &mut Redis) {
        let set = "local now = redis.call('TIME')
            local soonest = now[1] * 1000 + 1000
            for n = ARGV[2], ARGV[3] do
                local deadline = ARGV[4] + math.floor(100 * n / ARGV[5]) + 1
                redis.call('SET', ARGV[1] .. string.format('%d', n), 1,
                    'PXAT', string.format('%d', math.max(soonest, deadline)))
            end";
        let prefix = format!("{}reservation:", self.system.redis_prefix());
        let first: i64 = sqlx::query_scalar(
            "select (extract(epoch from date_trunc('second', min(expires_at))) * 1000)::bigint
            from reservations",
        )
        .fetch_one(&self.system.database.pool)
        .await
        .unwrap();
        // In pieces, because Redis serves no other client during a command.
        let piece = 10_000;
        let mut from = 1;
        while from <= self.holds {
            let numbers = [from, from + piece - 1, first, self.holds].map(|n| n.to_string());
            let [from_id, to_id, first, holds] = numbers.each_ref().map(String::as_str);
            let words = ["EVAL", set, "0", &prefix, from_id, to_id, first, holds];
            redis.ask_words::<()>(&words).await;
            from += piece;
        }
    }

    /// Waits until every hold is past its deadline.
    async fn breaks(&self) {
        eventually("the last deadline", async || {
            let last = "select clock_timestamp() > expires_at from reservations where id = $1";
            let passed: bool = sqlx::query_scalar(last)
                .bind(self.holds)
                .fetch_one(&self.system.database.pool)
                .await
                .unwrap();
            passed.then_some(())
        })
        .await;
    }

    /// Number of holds that all processes together have expired, by their metrics.
    async fn expired(&self) -> i64 {
        let mut sum = self.system.metric(EXPIRED).await;
        for expirer in &self.expirers {
            sum += expirer.metric(EXPIRED).await;
        }
        #[expect(clippy::cast_possible_truncation, reason = "small")]
        let sum = sum as i64;
        sum
    }

    /// Waits until everything is expired. Fails only if there is no progress.
    async fn drains(&self) {
        let mut expired = -1;
        while expired < self.holds {
            expired = eventually("holds that expire", async || {
                let now = self.expired().await;
                (now > expired).then_some(now)
            })
            .await;
        }
    }

    /// Number of the storm's holds with this condition.
    async fn holds_that(&self, condition: &str) -> i64 {
        let count = format!("select count(*) from reservations where id <= $1 and {condition}");
        sqlx::query_scalar(AssertSqlSafe(count))
            .bind(self.holds)
            .fetch_one(&self.system.database.pool)
            .await
            .unwrap()
    }

    /// Every unit is freed once, except those sold since.
    async fn is_over(&self, traded: &Traded) {
        assert_eq!(self.expired().await, self.holds, "each is expired once");
        let exact = "status = 'EXPIRED' and expired_at = expires_at";
        assert_eq!(self.holds_that(exact).await, self.holds);
        let product = self.system.product(self.product).await;
        let counters = ["stock", "held", "sold"].map(|name| product[name].clone());
        let (held, sold) = (traded.held, traded.sold);
        assert_eq!(
            json!(counters),
            json!([self.holds - held - sold, held, sold])
        );
        self.system.assert_clean_audit().await;
        for expirer in &self.expirers {
            let peak = expirer.child.memory_peak_kib();
            assert!(peak < MEMORY_LIMIT_KIB, "{peak} KiB");
        }
        join_all(self.expirers.iter().map(comes_to_rest)).await;
    }
}

/// With nothing due, an expirer sweeps once per second. If it queued every wake-up of the storm, it would sweep every
/// 20 ms for half an hour.
async fn comes_to_rest(expirer: &Peer) {
    eventually("an expirer at rest", async || {
        let since = Instant::now();
        expirer.sweeps().await;
        (since.elapsed() >= Duration::from_millis(500)).then_some(())
    })
    .await;
}

/// The fault of Redis.
#[derive(Clone, Copy, PartialEq)]
enum Hints {
    On,
    Off,
    /// At the first expiry, Redis loses all other timers and the counters.
    Flushed,
}

async fn rages(holds: i64, expirers: usize, hints: Hints) {
    // A private Redis, because expirers of other tests would receive these timers, too.
    let redis = Server::start_new(Service::Redis);
    let url = match hints {
        Hints::On | Hints::Flushed => redis.url.as_str(),
        Hints::Off => NO_REDIS.1,
    };
    let mut operator = Redis::at(&redis.url).await;
    let storm = Storm::before(holds, url, expirers).await;
    storm.gathers().await;
    if hints != Hints::Off {
        storm.is_timed(&mut operator).await;
    }
    storm.breaks().await;

    let over = CancellationToken::new();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = storm.system.client();
        clients.spawn(trade(client, storm.product, number, holds, over.clone()));
    }
    if hints == Hints::Flushed {
        eventually("the first to expire", async || {
            (storm.expired().await > 0).then_some(())
        })
        .await;
        operator.ask::<String>("FLUSHALL").await;
    }
    storm.drains().await;
    over.cancel();
    let traded: Traded = clients.join_all().await.into_iter().sum();
    if hints == Hints::On {
        let announced = format!("expired_keys:{holds}\r");
        eventually("all timers", async || {
            let stats: String = operator.ask("INFO stats").await;
            stats.contains(&announced).then_some(())
        })
        .await;
        let counter = format!(
            "{}metrics:reservations:expired",
            storm.system.redis_prefix()
        );
        operator
            .answers(&format!("GET {counter}"), Some(holds))
            .await;
    }
    storm.is_over(&traded).await;
    let deadlocks: i64 = sqlx::query_scalar(
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    .fetch_one(&storm.system.database.pool)
    .await
    .unwrap();
    assert_eq!(deadlocks, 0);
}

#[tokio::test]
async fn one_expirer_takes_it_alone() {
    rages(ALL, 1, Hints::On).await;
}

#[tokio::test]
async fn three_expirers_share_it() {
    rages(MANY, 3, Hints::On).await;
}

#[tokio::test]
async fn three_expirers_share_it_without_redis() {
    rages(MANY, 3, Hints::Off).await;
}

#[tokio::test]
async fn redis_forgets_everything_in_the_middle_of_it() {
    rages(MANY, 1, Hints::Flushed).await;
}

#[tokio::test]
async fn an_expirer_that_redis_cut_off_for_not_listening_comes_back() {
    let redis = Server::start_new(Service::Redis);
    let mut operator = Redis::at(&redis.url).await;
    let small = "pubsub 65536 65536 1";
    operator
        .ask_words::<()>(&["CONFIG", "SET", "client-output-buffer-limit", small])
        .await;
    let storm = Storm::before(MANY, &redis.url, 1).await;
    let expirer = &storm.expirers[0];
    let listeners = "CLIENT LIST TYPE pubsub";
    eventually("listening to Redis", async || {
        let listening: String = operator.ask(listeners).await;
        (listening.lines().count() == 1).then_some(())
    })
    .await;

    expirer.child.freeze();
    storm.gathers().await;
    storm.is_timed(&mut operator).await;
    storm.breaks().await;
    // The socket buffers of the connection hold megabytes before Redis buffers. This may need more timers than there
    // are holds, as from other products.
    eventually("the cut", async || {
        let listening: String = operator.ask(listeners).await;
        if listening.is_empty() {
            return Some(());
        }
        // Only after all have run out. Setting a pending timer again would delay it.
        if operator.ask::<i64>("DBSIZE").await == 0 {
            storm.is_timed(&mut operator).await;
        }
        None
    })
    .await;
    // Meanwhile reserves reclaim due holds themselves.
    let hold = storm.system.reserve(storm.product, MANY + 1).await;
    assert_eq!(storm.system.metric(EXPIRED).await, 1.0);
    assert!(storm.holds_that("status = 'ACTIVE'").await > 0);

    expirer.child.thaw();
    storm.drains().await;
    expirer.counts(RESUBSCRIBED, 1.0).await;
    eventually("listening to Redis again", async || {
        let listening: String = operator.ask(listeners).await;
        (listening.lines().count() == 1).then_some(())
    })
    .await;
    storm.system.confirm(&hold).await;
    storm.is_over(&Traded { held: 0, sold: 1 }).await;
}
