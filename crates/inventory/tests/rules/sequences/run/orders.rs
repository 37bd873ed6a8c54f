//! The steps with whole orders.

use inventory::{
    ReservationId,
    batch::{AllOrNone, Batch},
    cancel_batch::cancel_batch,
    confirm_batch::{Reacquire, confirm_batch},
    extend_batch::extend_batch,
    reservation::Status,
    transition,
};
use proptest::{prelude::*, test_runner::TestCaseError};
use time::OffsetDateTime;

use super::{super::reference::Whole, Run};
use crate::support::MAX_HOLD_SECONDS;

impl Run<'_> {
    pub(super) async fn cancel_batch(&mut self, holds: &[usize]) -> Result<(), TestCaseError> {
        let (named, ids) = self.order(holds);
        let before = self.count(Status::Canceled);
        let wanted = self.reference.cancel_batch(&named);
        let changed = self.count(Status::Canceled) - before;
        let (pool, events) = (&self.shop.pool, &self.shop.events);
        let done = cancel_batch(pool, &ids, events).await.unwrap();
        let offered = self.offered().await;
        prop_assert_eq!(done.offered, offered);
        self.compare_whole(&ids, &done, wanted, (changed, 0)).await
    }

    pub(super) async fn extend_batch(
        &mut self,
        holds: &[usize],
        seconds: i32,
    ) -> Result<(), TestCaseError> {
        let (named, ids) = self.order(holds);
        let (wanted, moved) = self.reference.extend_batch(&named, seconds);
        let before: OffsetDateTime = sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&self.shop.pool)
            .await
            .unwrap();
        let seconds = i64::from(seconds).try_into().unwrap();
        let done = extend_batch(&self.shop.pool, &ids, seconds, MAX_HOLD_SECONDS).await;
        let done = done.unwrap();
        self.compare_whole(&ids, &done, wanted, (moved.len(), 0))
            .await?;
        self.are_later(done.answer.iter().flatten(), before, &moved)
    }

    pub(super) async fn confirm_batch(
        &mut self,
        holds: &[usize],
        reacquire: bool,
    ) -> Result<(), TestCaseError> {
        let (named, ids) = self.order(holds);
        let before = self.count(Status::Confirmed);
        let (wanted, expired) = self.reference.confirm_batch(&named, reacquire);
        let changed = self.count(Status::Confirmed) - before;
        let reacquire = match reacquire {
            true => Reacquire::Expired,
            false => Reacquire::Nothing,
        };
        let (pool, events) = (&self.shop.pool, &self.shop.events);
        let done = confirm_batch(pool, &ids, reacquire, events).await.unwrap();
        let sold = done.answer.iter().flatten().map(|sold| sold.id);
        let sold_again: Vec<ReservationId> = sold.filter(|id| !self.holds.contains(id)).collect();
        self.offered().await;
        for id in sold_again {
            self.holds.push(id);
            self.offered().await;
        }
        prop_assert_eq!(self.holds.len(), self.reference.holds.len(), "holds made");
        self.compare_whole(&ids, &done, wanted, (changed, expired as usize))
            .await
    }

    /// As [`Run::named`], without repeats.
    fn order(&self, holds: &[usize]) -> (Vec<Option<usize>>, Vec<ReservationId>) {
        let mut order: Vec<_> = Vec::new();
        for hold in holds.iter().map(|back| self.newest(*back)) {
            if !order.contains(&hold) {
                order.push(hold);
            }
        }
        order.into_iter().unzip()
    }

    /// Compares the result of an order with the reference.
    async fn compare_whole(
        &self,
        ids: &[ReservationId],
        done: &AllOrNone<ReservationId>,
        wanted: Whole,
        (changed, expired): (usize, usize),
    ) -> Result<(), TestCaseError> {
        let changes = done
            .transitions()
            .filter_map(|transition| match transition {
                transition::Transition::Of(change, _) => Some(change),
                _ => None,
            });
        let (answers, changes) = match &done.answer {
            Ok(all) => (all.iter().cloned().map(Ok).collect(), changes.collect()),
            Err((id, refusal)) => {
                let refused = wanted.as_ref().err().map(|(position, _)| ids[*position]);
                prop_assert_eq!(Some(*id), refused);
                (
                    vec![Err(refusal.clone())],
                    vec![transition::Change::Repeated],
                )
            }
        };
        let wanted = wanted.unwrap_or_else(|(_, refusal)| vec![refusal]);
        let batch = Batch::new(answers, changes, done.expired);
        self.compare_batch(&batch, &wanted, changed, expired).await
    }
}
