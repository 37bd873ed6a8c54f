//! Runs one sequence against PostgreSQL and the reference.

mod line;
mod orders;

use std::collections::HashSet;

use inventory::{
    ProductId, ReservationId, WaitlistEntryId,
    adjust_stock::{self, Adjusted},
    batch::Batch,
    expire,
    extend::{self, Extend},
    product::{self, Policy},
    reacquire,
    reservation::{Reservation, Status},
    reserve::Reserve,
    reserve_batch::reserve_batch,
    set_stock::{SetStock, set_stock},
    transition,
};
use proptest::{prelude::*, test_runner::TestCaseError};
use time::{Duration, OffsetDateTime};
use trace::Span;

use super::{
    Change, Step, Wish,
    reference::{Answer, Deadline, Product, Reference, Request, Rules, Window},
};
use crate::support::{Changed as _, HOLD_SECONDS, MAX_HOLD_SECONDS, Shop, reservation_id, units};

/// An id that no product and no reservation has.
const UNKNOWN: i64 = i64::MAX;

pub(super) const REASON: &str = "counted";

/// A running sequence, on both sides.
pub(super) struct Run<'a> {
    pub(super) shop: &'a Shop,
    pub(super) reference: Reference,
    /// PostgreSQL's ids of the reference's products and holds.
    pub(super) products: Vec<ProductId>,
    pub(super) holds: Vec<ReservationId>,
    pub(super) entries: Vec<WaitlistEntryId>,
}

impl<'a> Run<'a> {
    pub(super) fn new(shop: &'a Shop) -> Self {
        Self {
            shop,
            reference: Reference::default(),
            products: Vec::new(),
            holds: Vec::new(),
            entries: Vec::new(),
        }
    }

    pub(super) async fn go_through(mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        self.clear().await;
        for step in steps {
            self.step(step).await?;
            self.compare().await?;
        }
        self.shop.assert_sound().await;
        Ok(())
    }

    /// Removes all data of the previous sequence.
    async fn clear(&self) {
        let clear = "delete from outbox_events; delete from reservations;
            delete from stock_adjustments; delete from waitlist_entries; delete from waitlists; delete from products";
        sqlx::raw_sql(clear).execute(&self.shop.pool).await.unwrap();
    }

    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.reference.calls += 1;
        match step {
            Step::Create { stock, rules } => self.create(*stock, *rules).await,
            Step::Change { product, change } => self.change(*product, change).await?,
            Step::AdjustStock { product, delta } => self.adjust_stock(*product, *delta).await?,
            Step::SetStock {
                product,
                stock,
                expected,
            } => self.set_stock(*product, *stock, *expected).await?,
            Step::Reserve(wishes) => self.reserve(wishes).await?,
            Step::ReserveBatch(wishes) => self.reserve_batch(wishes).await?,
            Step::Confirm(holds) => {
                let (named, ids) = self.named(holds);
                let before = self.count(Status::Confirmed);
                let answers = self.reference.confirm(&named);
                let batch = self.shop.confirm(&ids).await;
                let changed = self.count(Status::Confirmed) - before;
                self.compare_batch(&batch, &answers, changed, 0).await?;
            }
            Step::Cancel(holds) => {
                let (named, ids) = self.named(holds);
                let before = self.count(Status::Canceled);
                let answers = self.reference.cancel(&named);
                let batch = self.shop.cancel(&ids).await;
                let offered = self.offered().await;
                prop_assert_eq!(batch.offered, offered);
                let changed = self.count(Status::Canceled) - before;
                self.compare_batch(&batch, &answers, changed, 0).await?;
            }
            Step::Return(holds) => {
                let (named, ids) = self.named(holds);
                let before = self.count(Status::Returned);
                let answers = self.reference.return_sold(&named);
                let batch = self.shop.return_sold(&ids).await;
                let offered = self.offered().await;
                prop_assert_eq!(batch.offered, offered);
                let changed = self.count(Status::Returned) - before;
                self.compare_batch(&batch, &answers, changed, 0).await?;
            }
            Step::Extend(wishes) => self.extend(wishes).await?,
            Step::Reacquire(hold) => self.reacquire(*hold).await?,
            Step::ConfirmBatch { holds, reacquire } => {
                self.confirm_batch(holds, *reacquire).await?;
            }
            Step::CancelBatch(holds) => self.cancel_batch(holds).await?,
            Step::ExtendBatch(holds, seconds) => self.extend_batch(holds, *seconds).await?,
            Step::Join(wish) => self.join(wish).await?,
            Step::Leave(entry) => self.leave(*entry).await?,
            Step::Backdate(holds) => {
                for (hold, age) in holds {
                    self.backdate(*hold, *age).await;
                }
            }
            Step::Expire { product, max_rows } => {
                let (product, id) = self.named_product(*product);
                let max = *max_rows as usize;
                let expected = product.map_or(0, |product| self.reference.expire(product, max));
                prop_assert_eq!(self.shop.expire(id, *max_rows).await, expected);
                self.offered().await;
            }
            Step::Sweep { max_rows } => {
                let swept = expire::sweep(
                    &self.shop.pool,
                    *max_rows,
                    expire::Commit::Asynchronous,
                    &self.shop.events,
                    |_| true,
                )
                .await;
                prop_assert_eq!(swept.unwrap().expired, self.reference.sweep());
                self.offered().await;
            }
        }
        Ok(())
    }

    async fn create(&mut self, stock: i32, rules: Rules) {
        let policy = policy(&Change {
            hold_seconds: Some(rules.hold_seconds),
            max_hold_seconds: Some(rules.max_hold_seconds),
            max_per_user: Some(rules.max_per_user),
            window: Some(rules.window),
        });
        self.products
            .push(self.shop.product_with(stock.into(), policy).await);
        self.reference.products.push(Product {
            stock,
            held: 0,
            sold: 0,
            rules,
        });
    }

    async fn change(&mut self, product: usize, change: &Change) -> Result<(), TestCaseError> {
        let (product, id) = self.named_product(product);
        let changed = product::change(
            &self.shop.pool,
            id,
            None,
            None,
            &policy(change),
            &self.shop.events,
        )
        .await;
        let changed = changed.unwrap().answer.unwrap();
        prop_assert_eq!(changed.is_some(), product.is_some());
        if let (Some(product), Some(changed)) = (product, changed) {
            let rules = &mut self.reference.products[product].rules;
            *rules = Rules {
                hold_seconds: change.hold_seconds.unwrap_or(rules.hold_seconds),
                max_hold_seconds: change.max_hold_seconds.unwrap_or(rules.max_hold_seconds),
                max_per_user: change.max_per_user.unwrap_or(rules.max_per_user),
                window: change.window.unwrap_or(rules.window),
            };
            self.reference.offer(product);
            self.offered().await;
            self.compare_product(product, &changed)?;
        }
        Ok(())
    }

    async fn adjust_stock(&mut self, product: usize, delta: i32) -> Result<(), TestCaseError> {
        let (product, id) = self.named_product(product);
        let (wanted, wanted_expired) = self.reference.adjust_stock(product, delta);
        let adjustment = adjust_stock::Adjustment::new(delta, REASON.to_owned()).unwrap();
        let (pool, events) = (&self.shop.pool, &self.shop.events);
        let adjusted = adjust_stock::adjust_stock(pool, id, &adjustment, events).await;
        let Adjusted {
            answer,
            expired,
            offered,
        } = adjusted.unwrap();
        let made = self.offered().await;
        // Units of due holds that were offered on the way are not counted here.
        prop_assert!(offered == made || expired > 0 && offered == 0);
        if let (Some(product), Ok(adjusted)) = (product, &answer) {
            self.compare_product(product, adjusted)?;
        }
        let answer = answer.map_or_else(|refusal| self.refusal(&refusal), |_| Answer::Adjusted);
        prop_assert_eq!((answer, expired), (wanted, wanted_expired));
        Ok(())
    }

    async fn set_stock(
        &mut self,
        product: usize,
        stock: i32,
        expected: Option<i32>,
    ) -> Result<(), TestCaseError> {
        let (product, id) = self.named_product(product);
        let wanted = self.reference.set_stock(product, stock, expected);
        let reason = REASON.to_owned().try_into().unwrap();
        let set = SetStock {
            stock,
            expected,
            reason,
        };
        let set = set_stock(&self.shop.pool, id, &set, &self.shop.events).await;
        let set = set.unwrap();
        let offered = self.offered().await;
        prop_assert_eq!(set.offered, offered);
        let set = set.answer;
        if let (Some(product), Ok(read)) = (product, &set) {
            self.compare_product(product, read)?;
        }
        let answer = set.map_or_else(|refusal| self.refusal(&refusal), |_| Answer::Adjusted);
        prop_assert_eq!(answer, wanted);
        Ok(())
    }

    fn requests(&self, wishes: &[Wish]) -> (Vec<Reserve>, Vec<Request>) {
        let both = wishes.iter().map(|wish| {
            let (product, id) = self.named_product(wish.product);
            let reference = wish.named.then(|| reference_of(wish.user).parse().unwrap());
            let request = Reserve {
                reference,
                ..units(id, wish.user, wish.quantity.into())
            };
            let known = Request {
                product,
                user: wish.user,
                quantity: wish.quantity,
                named: wish.named,
            };
            (request, known)
        });
        both.unzip()
    }

    async fn reserve(&mut self, wishes: &[Wish]) -> Result<(), TestCaseError> {
        let (requests, known) = self.requests(wishes);
        let batch = self.shop.reserve(&requests).await;
        let expired = self.just_expired().await;
        let answers = self
            .reference
            .reserve(&known, &expired)
            .map_err(TestCaseError::fail)?;
        let offered = self.offered().await;
        prop_assert_eq!(batch.offered, offered);
        let granted = batch.answers.iter().flatten();
        self.made(granted)?;
        let changed = batch.answers.iter().flatten().count();
        self.compare_batch(&batch, &answers, changed, expired.len())
            .await
    }

    async fn reserve_batch(&mut self, wishes: &[Wish]) -> Result<(), TestCaseError> {
        let (requests, known) = self.requests(wishes);
        let (pool, events) = (&self.shop.pool, &self.shop.events);
        let reserved = reserve_batch(pool, &requests, HOLD_SECONDS, events).await;
        let reserved = reserved.unwrap();
        let expired = self.just_expired().await;
        let answers = self
            .reference
            .reserve_batch(&known, &expired)
            .map_err(TestCaseError::fail)?;
        let offered = self.offered().await;
        prop_assert_eq!(reserved.offered, offered);
        self.made(reserved.answer.iter().flatten())?;
        let (answers_given, changed) = match reserved.answer {
            Ok(holds) => (holds.into_iter().map(Ok).collect(), answers.len()),
            Err((product, refusal)) => {
                // The product of the first request that would be refused alone.
                let refused: Vec<ProductId> =
                    requests.iter().map(|request| request.product_id).collect();
                prop_assert!(refused.contains(&product));
                (vec![Err(refusal)], 0)
            }
        };
        let changes = vec![transition::Change::Reserved; answers_given.len()];
        let batch = Batch::new(answers_given, changes, reserved.expired);
        self.compare_batch(&batch, &answers, changed, expired.len())
            .await
    }

    /// The holds that PostgreSQL has expired and the reference has not.
    async fn just_expired(&self) -> Vec<usize> {
        let stored = self.stored().await;
        (0..self.holds.len())
            .filter(|hold| {
                self.reference.holds[*hold].status == Status::Active
                    && stored[&self.holds[*hold]].status == "EXPIRED"
            })
            .collect()
    }

    /// Adds the reference's new holds, in the order of the answers.
    fn made<'b>(
        &mut self,
        holds: impl Iterator<Item = &'b Reservation>,
    ) -> Result<(), TestCaseError> {
        self.holds.extend(holds.map(|hold| hold.id));
        prop_assert_eq!(self.holds.len(), self.reference.holds.len(), "holds made");
        Ok(())
    }

    async fn extend(&mut self, wishes: &[(usize, i32)]) -> Result<(), TestCaseError> {
        let (known, requests): (Vec<_>, Vec<_>) = wishes
            .iter()
            .map(|(hold, seconds)| {
                let (known, id) = self.newest(*hold);
                let request = Extend {
                    id,
                    seconds: i64::from(*seconds).try_into().unwrap(),
                };
                ((known, *seconds), request)
            })
            .unzip();
        let (answers, moved) = self.reference.extend(&known);
        let before: OffsetDateTime = sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&self.shop.pool)
            .await
            .unwrap();
        let batch = extend::extend(&self.shop.pool, &requests, MAX_HOLD_SECONDS)
            .await
            .unwrap();
        self.compare_batch(&batch, &answers, moved.len(), 0).await?;
        self.are_later(batch.answers.iter().flatten(), before, &moved)
    }

    /// The moved holds last at least the wanted seconds from `before`.
    fn are_later<'b>(
        &self,
        holds: impl Iterator<Item = &'b Reservation>,
        before: OffsetDateTime,
        moved: &HashSet<usize>,
    ) -> Result<(), TestCaseError> {
        for hold in holds {
            let position = self.position(hold.id);
            if let Deadline::Moved(seconds) = self.reference.holds[position].deadline
                && moved.contains(&position)
            {
                prop_assert!(hold.expires_at >= before + Duration::seconds(seconds.into()));
            }
        }
        Ok(())
    }

    async fn reacquire(&mut self, hold: usize) -> Result<(), TestCaseError> {
        let (lost, id) = self.newest(hold);
        let before = self.holds.len();
        let (answer, expired) = self.reference.reacquire(lost);
        let batch =
            reacquire::reacquire(&self.shop.pool, id, &Span::current(), &self.shop.events).await;
        let batch = batch.unwrap();
        self.offered().await;
        let changed = usize::from(matches!(answer, Answer::Ok(hold) if hold >= before));
        if batch.changed() > 0 {
            self.made(batch.answers.iter().flatten())?;
        }
        self.compare_batch(&batch, &[answer], changed, expired as usize)
            .await
    }

    /// Moves the deadlines of ACTIVE holds. All deadlines differ, so that their order is defined.
    async fn backdate(&mut self, hold: usize, age: i32) {
        let (Some(hold), _) = self.newest(hold) else {
            return;
        };
        if self.reference.holds[hold].status != Status::Active {
            return;
        }
        let due = hold as i32 - age * 1000;
        self.reference.holds[hold].due = Some(due);
        sqlx::query("update reservations set expires_at = $2 where id = $1")
            .bind(self.holds[hold])
            .bind(long_past(due))
            .execute(&self.shop.pool)
            .await
            .unwrap();
    }

    fn named_product(&self, product: usize) -> (Option<usize>, ProductId) {
        match self.products.get(product) {
            Some(id) => (Some(product), *id),
            None => (None, ProductId::try_from(UNKNOWN).unwrap()),
        }
    }

    /// The hold at this distance from the newest, if it exists, and its id.
    fn newest(&self, back: usize) -> (Option<usize>, ReservationId) {
        let position = self.holds.len().checked_sub(back + 1);
        let id = position.map_or_else(|| reservation_id(UNKNOWN), |hold| self.holds[hold]);
        (position, id)
    }

    fn named(&self, holds: &[usize]) -> (Vec<Option<usize>>, Vec<ReservationId>) {
        holds.iter().map(|back| self.newest(*back)).unzip()
    }

    fn count(&self, status: Status) -> usize {
        let holds = self.reference.holds.iter();
        holds.filter(|hold| hold.status == status).count()
    }
}

fn policy(change: &Change) -> Policy {
    let hour = |hours| Some(OffsetDateTime::now_utc() + Duration::hours(hours));
    let window = change.window.map(|window| match window {
        Window::Always => (None, None),
        Window::Open => (hour(-1), hour(1)),
        Window::Ahead => (hour(1), None),
        Window::Over => (None, hour(-1)),
    });
    let number = |wanted: Option<i32>| wanted.map(|number| i64::from(number).try_into().unwrap());
    Policy {
        hold_seconds: change.hold_seconds.map(number),
        max_hold_seconds: change.max_hold_seconds.map(number),
        max_per_user: change
            .max_per_user
            .map(|units| units.map(|units| i64::from(units).try_into().unwrap())),
        sale_starts_at: window.map(|(starts, _)| starts),
        sale_ends_at: window.map(|(_, ends)| ends),
    }
}

pub(super) fn reference_of(user: i64) -> String {
    format!("order of {user}")
}

/// The times at which holds fell due.
pub(super) fn long_past(seconds: i32) -> OffsetDateTime {
    const BEGINNING: i64 = 978_307_200; // of 2001
    OffsetDateTime::from_unix_timestamp(BEGINNING + i64::from(seconds)).unwrap()
}
