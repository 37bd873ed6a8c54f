//! Helpers for the tests of waitlists.

use inventory::{
    ProductId, Quantity, ReservationId, WaitlistEntryId,
    join_waitlist::{Join, Joined, join_waitlist},
    leave_waitlist::{Left, leave_waitlist},
    product::{self, Policy, Product},
    waitlist::{self, Entry},
};
use time::{Duration, OffsetDateTime};

use crate::support::{HOLD_SECONDS, Shop, user};

/// The duration of the holds of these tests.
pub(super) const HOLD: std::time::Duration = std::time::Duration::from_secs(HOLD_SECONDS as u64);

pub(super) fn entry_id(id: i64) -> WaitlistEntryId {
    WaitlistEntryId::try_from(id).unwrap()
}

pub(super) fn wish(product_id: ProductId, user_id: i64, quantity: i64) -> Join {
    Join {
        product_id,
        user_id: user(user_id),
        quantity: Quantity::try_from(quantity).unwrap(),
        reference: None,
    }
}

/// A sale from one hour to another, relative to now.
pub(super) fn window(starts: i64, ends: i64) -> Policy {
    let hour = |hours| Some(Some(OffsetDateTime::now_utc() + Duration::hours(hours)));
    Policy {
        sale_starts_at: hour(starts),
        sale_ends_at: hour(ends),
        ..Policy::default()
    }
}

/// Entries of as many users, written by hand.
pub(super) async fn crowd_waits(shop: &Shop, product: ProductId, count: i32) {
    sqlx::query(
        "with entries as (
            insert into waitlist_entries (product_id, user_id, quantity, hold_seconds)
            select $1, 5000000 + i, 1, 300 from generate_series(1, $2) i
        ), line as (
            insert into waitlists (product_id) values ($1)
        )
        update products set waiting = $2 where id = $1",
    )
    .bind(product)
    .bind(count)
    .execute(&shop.pool)
    .await
    .unwrap();
}

pub(super) trait Line {
    async fn join(&self, request: &Join) -> Joined;
    /// Joins for one unit. Fails the test if refused.
    async fn waits(&self, product_id: ProductId, user_id: i64) -> Entry;
    async fn leave(&self, id: WaitlistEntryId) -> Left;
    async fn entry(&self, id: WaitlistEntryId) -> Entry;
    async fn change(&self, product_id: ProductId, policy: &Policy) -> Product;
    /// Lets the end of the sale pass.
    async fn end_sale(&self, product_id: ProductId);
    /// A hold of one additional unit, written by hand.
    async fn hold_by_hand(&self, product_id: ProductId, user_id: i64) -> ReservationId;
    /// Each offer is a hold of the same user, product and quantity. The line is strict: nobody was offered a hold after
    /// somebody behind, unless the entry ended otherwise.
    async fn assert_lines(&self);
}

impl Line for Shop {
    async fn join(&self, request: &Join) -> Joined {
        join_waitlist(&self.pool, request, HOLD_SECONDS, &self.events)
            .await
            .unwrap()
    }

    async fn waits(&self, product_id: ProductId, user_id: i64) -> Entry {
        self.join(&wish(product_id, user_id, 1))
            .await
            .answer
            .unwrap()
    }

    async fn leave(&self, id: WaitlistEntryId) -> Left {
        leave_waitlist(&self.pool, id, &self.events).await.unwrap()
    }

    async fn entry(&self, id: WaitlistEntryId) -> Entry {
        waitlist::get(&self.pool, id).await.unwrap().unwrap()
    }

    async fn change(&self, product_id: ProductId, policy: &Policy) -> Product {
        let changed =
            product::change(&self.pool, product_id, None, None, policy, &self.events).await;
        changed.unwrap().answer.unwrap().unwrap()
    }

    async fn end_sale(&self, product_id: ProductId) {
        sqlx::query(
            "with ended as (
                update products set sale_ends_at = clock_timestamp() where id = $1
            )
            update waitlists set due_at = clock_timestamp() where product_id = $1",
        )
        .bind(product_id)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    async fn hold_by_hand(&self, product_id: ProductId, user_id: i64) -> ReservationId {
        sqlx::query_scalar(
            "with counted as (
                update products set total = total + 1, initial = initial + 1, held = held + 1 where id = $1
            )
            insert into reservations (product_id, user_id, expires_at)
            values ($1, $2, clock_timestamp() + interval '5 min')
            returning id",
        )
        .bind(product_id)
        .bind(user_id)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    async fn assert_lines(&self) {
        let unlike = self
            .count(
                "select count(*) from waitlist_entries e
                left join reservations r on r.id = e.reservation_id and r.product_id = e.product_id
                    and r.user_id = e.user_id and r.quantity = e.quantity
                    and r.reference is not distinct from e.reference and r.created_at = e.ended_at
                where e.status = 'OFFERED' and r.id is null",
            )
            .await;
        assert_eq!(unlike, 0, "offers without their hold");
        let overtaken = self
            .count(
                "select count(*) from waitlist_entries behind
                join waitlist_entries before on before.product_id = behind.product_id and before.id < behind.id
                where behind.status = 'OFFERED' and coalesce(before.ended_at, 'infinity') > behind.ended_at",
            )
            .await;
        assert_eq!(overtaken, 0, "entries that were overtaken");
        let offered = self
            .count(
                "select count(*) from waitlists l
                where l.offered <> (
                    select count(*) from waitlist_entries e
                    where e.product_id = l.product_id and e.status = 'OFFERED'
                )",
            )
            .await;
        assert_eq!(offered, 0, "products whose offers are miscounted");
    }
}
