//! A shop with its own database, and helpers for the tests.

use inventory::{
    Error, ProductId, Quantity, ReservationId, UserId, audit,
    batch::Batch,
    cancel::{self, Cancel},
    confirm::{self, Confirm},
    event::Events,
    expire,
    locked::IfLocked,
    product::{self, NewProduct, Policy},
    reservation::{self, Refusal, Reservation},
    reserve::{self, Reserve},
    return_sold,
    transition::{Change, Transition},
};
use sqlx::{
    PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use time::OffsetDateTime;
use tokio::task::AbortHandle;
use trace::Span;

pub(crate) const HOLD_SECONDS: i32 = 300;
/// Maximum duration of a hold, as in the API's setting.
pub(crate) const MAX_HOLD_SECONDS: i32 = 3600;

pub(crate) const ALL_EVENTS: &str = "ReservationCreated,ReservationConfirmed,ReservationCanceled,\
    ReservationExpired,ReservationReturned,StockAdjusted,WaitlistOffered";

/// Users of the holds created by [`Shop::crowd`] start here, to avoid a test's own users.
const CROWD: i64 = 1_000_000;

#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) pool: PgPool,
    /// The event types that are written into the outbox.
    pub(crate) events: Events,
}

/// A reservation as stored, not as read.
#[derive(Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct Stored {
    pub(crate) status: String,
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) expired_at: Option<OffsetDateTime>,
}

pub(crate) fn user(id: i64) -> UserId {
    UserId::try_from(id).unwrap()
}

pub(crate) fn reservation_id(id: i64) -> ReservationId {
    ReservationId::try_from(id).unwrap()
}

/// A request for one unit.
pub(crate) fn one(product_id: ProductId, user_id: i64) -> Reserve {
    units(product_id, user_id, 1)
}

pub(crate) fn units(product_id: ProductId, user_id: i64, quantity: i64) -> Reserve {
    Reserve {
        product_id,
        user_id: user(user_id),
        quantity: Quantity::try_from(quantity).unwrap(),
        reference: None,
        span: Span::current(),
    }
}

/// The answers without the reservations.
pub(crate) fn outcomes(batch: &Batch) -> Vec<Result<(), Refusal>> {
    batch
        .answers
        .iter()
        .map(|answer| answer.as_ref().map(|_| ()).map_err(Clone::clone))
        .collect()
}

pub(crate) trait Changed {
    /// Number of reservations that the call changed. Repeats are successful answers without a change.
    fn changed(&self) -> u64;
}

impl Changed for Batch {
    fn changed(&self) -> u64 {
        let is_change = |it: &Transition<'_>| matches!(it, Transition::Of(change, _) if *change != Change::Repeated);
        self.transitions().filter(is_change).count() as u64
    }
}

/// The answer of a batch of one.
pub(crate) fn only(batch: Batch) -> Result<Reservation, Refusal> {
    let [answer] = <[_; 1]>::try_from(batch.answers).unwrap();
    answer
}

impl Shop {
    pub(crate) fn new(pool: PgPool) -> Self {
        let events = "ReservationConfirmed".parse().unwrap();
        Self { pool, events }
    }

    /// With more connections than the test's own pool has.
    pub(crate) async fn with_connections(connections: u32, options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new().max_connections(connections);
        Self::new(pool.connect_with(options).await.unwrap())
    }

    pub(crate) async fn product(&self, stock: i64) -> ProductId {
        self.product_with(stock, Policy::default()).await
    }

    /// A product with its own rules.
    pub(crate) async fn product_with(&self, stock: i64, policy: Policy) -> ProductId {
        let new = NewProduct::new("iPhone 15".to_owned(), stock, policy).unwrap();
        product::create(&self.pool, &new).await.unwrap().unwrap().id
    }

    pub(crate) async fn reserve(&self, requests: &[Reserve]) -> Batch {
        reserve::reserve(&self.pool, requests, HOLD_SECONDS, &self.events)
            .await
            .unwrap()
    }

    /// Reserves one unit. Fails the test if refused.
    pub(crate) async fn hold(&self, product_id: ProductId, user_id: i64) -> Reservation {
        only(self.reserve(&[one(product_id, user_id)]).await).unwrap()
    }

    /// An unswept hold whose deadline was `seconds` ago.
    pub(crate) async fn stale_hold(
        &self,
        product_id: ProductId,
        user_id: i64,
        seconds: i32,
    ) -> ReservationId {
        let hold = self.hold(product_id, user_id).await;
        self.backdate(hold.id, seconds).await;
        hold.id
    }

    pub(crate) async fn confirm(&self, ids: &[ReservationId]) -> Batch {
        self.try_confirm(ids).await.unwrap()
    }

    pub(crate) async fn try_confirm(&self, ids: &[ReservationId]) -> Result<Batch, Error> {
        let requests: Vec<Confirm> = ids.iter().copied().map(Confirm::from).collect();
        confirm::confirm(&self.pool, &requests, &self.events).await
    }

    pub(crate) async fn cancel(&self, ids: &[ReservationId]) -> Batch {
        let requests: Vec<Cancel> = ids.iter().copied().map(Cancel::from).collect();
        let canceled = cancel::cancel(&self.pool, &requests, &self.events).await;
        canceled.unwrap()
    }

    pub(crate) async fn return_sold(&self, ids: &[ReservationId]) -> Batch {
        return_sold::return_sold(&self.pool, ids, &self.events)
            .await
            .unwrap()
    }

    pub(crate) async fn expire(&self, product_id: ProductId, max_rows: i32) -> u64 {
        let done = expire::expire(
            &self.pool,
            product_id,
            max_rows,
            expire::Commit::Asynchronous,
            IfLocked::Wait,
            &self.events,
        )
        .await;
        done.unwrap().unwrap().expired
    }

    pub(crate) async fn get(&self, id: ReservationId) -> Reservation {
        let found = reservation::get(&self.pool, &[id]).await.unwrap();
        found.into_iter().next().flatten().unwrap()
    }

    /// Moves a deadline to `seconds` ago.
    pub(crate) async fn backdate(&self, id: ReservationId, seconds: i32) {
        sqlx::query(
            "update reservations set expires_at = clock_timestamp() - make_interval(secs => $2)
            where id = $1",
        )
        .bind(id)
        .bind(seconds)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// `count` holds of one unit by as many users, with deadlines around `seconds` from now.
    pub(crate) async fn crowd(&self, product_id: ProductId, count: i32, seconds: i32) {
        sqlx::query(
            "with made as (
                insert into reservations (product_id, user_id, expires_at)
                select $1, $4 + i, clock_timestamp() + make_interval(secs => $3 + i / 1e6)
                from generate_series(1, $2) i
            )
            update products set stock = stock - $2, held = held + $2 where id = $1",
        )
        .bind(product_id)
        .bind(count)
        .bind(seconds)
        .bind(CROWD)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    pub(crate) async fn stored(&self, id: ReservationId) -> Stored {
        sqlx::query_as("select status, expires_at, expired_at from reservations where id = $1")
            .bind(id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Counters in a product's row: stock, held, sold.
    pub(crate) async fn counters(&self, product_id: ProductId) -> (i32, i32, i32) {
        sqlx::query_as("select stock, held, sold from products where id = $1")
            .bind(product_id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// The result of a query for one number.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Checks the invariants: the counters match the reservations, and each sale has exactly one correct event.
    pub(crate) async fn assert_sound(&self) {
        let audit = audit::audit(&self.pool).await.unwrap();
        assert!(audit.clean, "{:?}", audit.differences);
        let unlike = self
            .count(
                "select count(*)
                from (select * from reservations where status in ('CONFIRMED', 'RETURNED')) r
                full join (
                    select * from outbox_events where event_type = 'ReservationConfirmed'
                ) e on (e.payload->>'reservation_id')::bigint = r.id
                where r.id is null or e.id is null
                    or (e.payload->>'product_id')::bigint <> r.product_id
                    or (e.payload->>'user_id')::bigint <> r.user_id
                    or (e.payload->>'quantity')::integer <> r.quantity
                    or (e.payload->>'confirmed_at')::timestamptz <> r.confirmed_at",
            )
            .await;
        let (sales, events) = (
            self.count(
                "select count(*) from reservations where status in ('CONFIRMED', 'RETURNED')",
            )
            .await,
            self.count(
                "select count(*) from outbox_events where event_type = 'ReservationConfirmed'",
            )
            .await,
        );
        assert_eq!((unlike, events), (0, sales), "events and sales differ");
        let early = self
            .count(
                "select count(*) from reservations
                where expired_at <> expires_at or confirmed_at >= expires_at and reacquired_from is null
                    or canceled_at >= expires_at",
            )
            .await;
        assert_eq!(
            early, 0,
            "a hold came to an end on the wrong side of its deadline"
        );
    }

    /// Holds a product's lock until the transaction ends, as a running call does.
    pub(crate) async fn lock(&self, product_id: ProductId) -> Transaction<'static, Postgres> {
        let mut transaction = self.pool.begin().await.unwrap();
        sqlx::query("select from products where id = $1 for no key update")
            .bind(product_id)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction
    }

    /// Returns once each of these calls waits for a lock. None may finish before.
    pub(crate) async fn until_waiting(&self, calls: &[AbortHandle]) {
        let mut waiting = 0;
        while waiting < calls.len() as i64 {
            assert!(
                !calls.iter().any(|call| call.is_finished()),
                "a call did not wait for the product's lock"
            );
            waiting = self
                .count(
                    "select count(*) from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock'",
                )
                .await;
        }
    }
}
