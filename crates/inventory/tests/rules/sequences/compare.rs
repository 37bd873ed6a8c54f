//! Compares PostgreSQL with the reference.

use std::collections::HashMap;

use inventory::{
    ProductId, ReservationId,
    batch::Batch,
    product,
    reservation::{self, Refusal, Reservation, Status},
};
use proptest::{prelude::*, test_runner::TestCaseError};
use time::{Duration, OffsetDateTime};

use super::{
    reference::{Answer, Deadline, Hold, Window},
    run::{REASON, Run, long_past, reference_of},
};
use crate::support::Changed as _;

impl Run<'_> {
    pub(super) async fn compare_batch(
        &self,
        batch: &Batch,
        wanted: &[Answer],
        changed: usize,
        expired: usize,
    ) -> Result<(), TestCaseError> {
        let answers: Vec<Answer> = batch
            .answers
            .iter()
            .map(|answer| match answer {
                Ok(hold) => Answer::Ok(self.position(hold.id)),
                Err(refusal) => self.refusal(refusal),
            })
            .collect();
        prop_assert_eq!(&answers[..], wanted);
        prop_assert_eq!(
            (batch.changed(), batch.expired),
            (changed as u64, expired as u64)
        );
        // Each answer equals a later read, in every field.
        let answered: Vec<&Reservation> = batch.answers.iter().flatten().collect();
        let ids: Vec<ReservationId> = answered.iter().map(|hold| hold.id).collect();
        let read = reservation::get(&self.shop.pool, &ids).await.unwrap();
        let read: Vec<Reservation> = read.into_iter().flatten().collect();
        prop_assert_eq!(format!("{answered:?}"), format!("{read:?}"));
        Ok(())
    }

    pub(super) fn refusal(&self, refusal: &Refusal) -> Answer {
        match refusal {
            Refusal::ProductNotFound => Answer::ProductNotFound,
            Refusal::SaleNotOpen => Answer::SaleNotOpen,
            Refusal::SaleClosed => Answer::SaleClosed,
            Refusal::AlreadyReserved { reservation_id } => {
                Answer::AlreadyReserved(self.position(*reservation_id))
            }
            Refusal::SoldOut { free } => Answer::SoldOut(*free),
            Refusal::SoldOutToWaitlist { free } => Answer::SoldOutToWaitlist(*free),
            Refusal::AlreadyWaiting { entry_id } => Answer::AlreadyWaiting(self.place(*entry_id)),
            Refusal::WaitlistEntryNotFound => Answer::EntryNotFound,
            Refusal::WaitlistEntryOffered { reservation_id } => {
                Answer::EntryOffered(self.position(*reservation_id))
            }
            Refusal::WaitlistEntryClosed => Answer::EntryClosed,
            Refusal::MaxPerUserReached { remaining } => Answer::MaxPerUserReached(*remaining),
            Refusal::ReservationNotFound => Answer::ReservationNotFound,
            Refusal::ReservationNotConfirmed => Answer::Ended(Status::Active),
            Refusal::ReservationExpired => Answer::Ended(Status::Expired),
            Refusal::ReservationCanceled => Answer::Ended(Status::Canceled),
            Refusal::ReservationConfirmed => Answer::Ended(Status::Confirmed),
            Refusal::ReservationReturned => Answer::Ended(Status::Returned),
            Refusal::ExpiredSoldOut => Answer::ExpiredSoldOut,
            Refusal::InsufficientStock { free } => Answer::InsufficientStock(*free),
            Refusal::TotalTooLarge => Answer::TotalTooLarge,
            Refusal::StockChanged { free } => Answer::StockChanged(*free),
            Refusal::SkuTaken | Refusal::SkuMoved { .. } | Refusal::SkuFixed => {
                unreachable!("no step gives a SKU")
            }
        }
    }

    /// The position of a hold in the reference. Unknown ids have none.
    pub(super) fn position(&self, id: ReservationId) -> usize {
        let position = self.holds.iter().position(|known| *known == id);
        position.unwrap_or(usize::MAX)
    }

    pub(super) fn compare_product(
        &self,
        position: usize,
        read: &product::Product,
    ) -> Result<(), TestCaseError> {
        let product = &self.reference.products[position];
        let total = product.stock + product.held + product.sold;
        prop_assert_eq!(
            (read.id, read.stock, read.held, read.sold, read.total),
            (
                self.products[position],
                product.stock,
                product.held,
                product.sold,
                total
            )
        );
        let line = self.reference.line(position);
        prop_assert_eq!(read.waiting, line.len() as i32);
        let rules = product.rules;
        prop_assert_eq!(read.hold_seconds.map(|it| it.get()), rules.hold_seconds);
        prop_assert_eq!(
            read.max_hold_seconds.map(|it| it.get()),
            rules.max_hold_seconds
        );
        prop_assert_eq!(read.max_per_user.map(|it| it.get()), rules.max_per_user);
        prop_assert_eq!(
            (read.sale_starts_at.is_some(), read.sale_ends_at.is_some()),
            match rules.window {
                Window::Always => (false, false),
                Window::Open => (true, true),
                Window::Ahead => (true, false),
                Window::Over => (false, true),
            }
        );
        Ok(())
    }

    /// Compares every counter, every row as stored and as read, and every event.
    pub(super) async fn compare(&self) -> Result<(), TestCaseError> {
        let products = product::list(&self.shop.pool).await.unwrap();
        prop_assert_eq!(products.len(), self.products.len());
        for (position, product) in products.iter().enumerate() {
            self.compare_product(position, product)?;
        }

        let mut stored = self.stored().await;
        prop_assert_eq!(stored.len(), self.holds.len(), "rows and holds");
        let read = reservation::get(&self.shop.pool, &self.holds)
            .await
            .unwrap();
        let mut events = self.reference.adjustments.len();
        let created: Vec<OffsetDateTime> =
            read.iter().flatten().map(|read| read.created_at).collect();
        for ((position, id), read) in self.holds.iter().enumerate().zip(read) {
            let row = stored.remove(id).unwrap();
            prop_assert_eq!(&row, &self.row(position));
            events += row.events.len();
            let (hold, read) = (&self.reference.holds[position], read.unwrap());
            prop_assert_eq!(read.status, self.reference.effective(position));
            compare_times(hold, &read, &created)?;
        }
        self.compare_entries().await?;
        events += self.reference.offered();
        // No event belongs to work that was rolled back.
        let written = "select count(*) from outbox_events";
        prop_assert_eq!(self.shop.count(written).await, events as i64);
        self.compare_ledger().await
    }

    /// Compares each adjustment and its event, in order.
    async fn compare_ledger(&self) -> Result<(), TestCaseError> {
        let ledger: Vec<(ProductId, i32, String, i32, i32)> = sqlx::query_as(
            "select a.product_id, a.delta, a.reason,
                (e.payload->'stock')::integer, (e.payload->'total')::integer
            from stock_adjustments a
            join outbox_events e on (e.payload->'adjustment_id')::bigint = a.id
                and e.event_type = 'StockAdjusted' and (e.payload->'product_id')::bigint = a.product_id
                and (e.payload->'delta')::integer = a.delta and e.payload->>'reason' = a.reason
                and (e.payload->>'adjusted_at')::timestamptz = a.created_at
            order by a.id",
        )
        .fetch_all(&self.shop.pool)
        .await
        .unwrap();
        let adjustments = self.reference.adjustments.iter();
        let wanted: Vec<_> = adjustments
            .map(|adjusted| {
                let product = self.products[adjusted.product];
                let reason = REASON.to_owned();
                let (stock, total) = (adjusted.stock, adjusted.total);
                (product, adjusted.delta, reason, stock, total)
            })
            .collect();
        prop_assert_eq!(ledger, wanted);
        Ok(())
    }

    pub(super) async fn stored(&self) -> HashMap<ReservationId, Row> {
        let rows: Vec<Row> = sqlx::query_as(
            "select id, product_id, user_id, quantity, status, reference, reacquired_from,
                array(
                    select e.event_type from outbox_events e
                    where (e.payload->'reservation_id')::bigint = r.id
                        and (e.payload->'product_id')::bigint = r.product_id
                        and (e.payload->'user_id')::bigint = r.user_id
                        and (e.payload->'quantity')::integer = r.quantity
                        and e.payload->>'reference' is not distinct from r.reference
                        and e.created_at = e.next_attempt_at
                        and (e.event_type = 'ReservationExpired' or e.created_at = case e.event_type
                            when 'ReservationCreated' then r.created_at
                            when 'ReservationConfirmed' then r.confirmed_at
                            when 'ReservationCanceled' then r.canceled_at
                            when 'ReservationReturned' then r.returned_at end)
                        and case e.event_type
                            when 'ReservationCreated' then (e.payload->>'created_at')::timestamptz
                            when 'ReservationConfirmed' then (e.payload->>'confirmed_at')::timestamptz
                            when 'ReservationCanceled' then (e.payload->>'canceled_at')::timestamptz
                            when 'ReservationExpired' then (e.payload->>'expired_at')::timestamptz
                            when 'ReservationReturned' then (e.payload->>'returned_at')::timestamptz
                        end = case e.event_type
                            when 'ReservationExpired' then r.expired_at else e.created_at end
                    order by e.id
                ) as events,
                coalesce((
                    select extract(epoch from (e.payload->>'expires_at')::timestamptz - r.created_at)
                    from outbox_events e
                    where (e.payload->'reservation_id')::bigint = r.id
                        and e.event_type = 'ReservationCreated'
                ), 0)::float8 as made_for
            from reservations r",
        )
        .fetch_all(&self.shop.pool)
        .await
        .unwrap();
        rows.into_iter().map(|row| (row.id, row)).collect()
    }

    /// The expected row of a hold and its events.
    fn row(&self, position: usize) -> Row {
        let hold = &self.reference.holds[position];
        let mut events = vec!["ReservationCreated"];
        if hold.reacquired_from.is_some() {
            events.clear();
        }
        let (status, told): (_, &[_]) = match hold.status {
            Status::Active => ("ACTIVE", &[]),
            Status::Confirmed => ("CONFIRMED", &["ReservationConfirmed"]),
            Status::Canceled => ("CANCELED", &["ReservationCanceled"]),
            Status::Expired => ("EXPIRED", &["ReservationExpired"]),
            Status::Returned => ("RETURNED", &["ReservationConfirmed", "ReservationReturned"]),
        };
        events.extend(told);
        Row {
            id: self.holds[position],
            product_id: self.products[hold.product],
            user_id: hold.user,
            quantity: hold.quantity,
            status: status.to_owned(),
            reference: hold.named.then(|| reference_of(hold.user)),
            reacquired_from: hold.reacquired_from.map(|lost| self.holds[lost]),
            events: events.into_iter().map(str::to_owned).collect(),
            made_for: hold.made_for.into(),
        }
    }
}

/// A reservation has the times of its transitions, and its deadline is the last one that was set. `created` has the
/// time of each hold.
fn compare_times(
    hold: &Hold,
    read: &Reservation,
    created: &[OffsetDateTime],
) -> Result<(), TestCaseError> {
    let expired_at = (read.status == Status::Expired).then_some(read.expires_at);
    prop_assert_eq!(read.expired_at, expired_at);
    let sold = matches!(read.status, Status::Confirmed | Status::Returned);
    prop_assert_eq!(read.confirmed_at.is_some(), sold);
    prop_assert_eq!(read.canceled_at.is_some(), read.status == Status::Canceled);
    prop_assert_eq!(read.returned_at.is_some(), read.status == Status::Returned);
    let lasts = read.expires_at - read.created_at;
    let seconds = |seconds: i32| Duration::seconds(seconds.into());
    match (hold.due, hold.deadline) {
        (Some(due), _) => prop_assert_eq!(read.expires_at, long_past(due)),
        (None, Deadline::AfterCreation(after)) => prop_assert_eq!(lasts, seconds(after)),
        (None, Deadline::AfterCreationOf(other, after)) => {
            prop_assert_eq!(read.expires_at, created[other] + seconds(after));
        }
        (None, Deadline::Moved(after)) => {
            let latest = OffsetDateTime::now_utc() + seconds(after);
            prop_assert!(
                lasts > seconds(after) && read.expires_at <= latest,
                "{read:?}"
            );
        }
    }
    Ok(())
}

/// A reservation as stored, and its correct events in order.
#[derive(Debug, PartialEq, sqlx::FromRow)]
pub(super) struct Row {
    id: ReservationId,
    product_id: ProductId,
    user_id: i64,
    quantity: i32,
    pub(super) status: String,
    reference: Option<String>,
    reacquired_from: Option<ReservationId>,
    events: Vec<String>,
    /// The seconds from creation to deadline in the event.
    made_for: f64,
}
