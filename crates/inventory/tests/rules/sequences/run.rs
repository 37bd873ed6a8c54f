//! One sequence, played to PostgreSQL and to the reference.

use std::collections::HashMap;

use inventory::{
    ProductId, ReservationId, expire, product,
    reservation::{self, Batch, Refusal, Reservation, Status},
};
use proptest::{prelude::*, test_runner::TestCaseError};
use time::Duration;

use super::{
    Step, Wish,
    reference::{Answer, Product, Reference, Request},
};
use crate::support::{HOLD_SECONDS, Shop, reservation_id, units};

/// No product and no reservation has this id.
const UNKNOWN: i64 = i64::MAX;

/// One sequence under way, on both sides.
pub(super) struct Run<'a> {
    shop: &'a Shop,
    reference: Reference,
    /// The ids that PostgreSQL gave to the reference's products and holds.
    products: Vec<ProductId>,
    holds: Vec<ReservationId>,
}

impl<'a> Run<'a> {
    pub(super) fn new(shop: &'a Shop) -> Self {
        Self {
            shop,
            reference: Reference::default(),
            products: Vec::new(),
            holds: Vec::new(),
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

    /// Nothing is left of the sequence before.
    async fn clear(&self) {
        let clear = "delete from outbox_events; delete from reservations; delete from products";
        sqlx::raw_sql(clear).execute(&self.shop.pool).await.unwrap();
    }

    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Create { stock } => {
                self.products.push(self.shop.product((*stock).into()).await);
                self.reference.products.push(Product {
                    stock: *stock,
                    held: 0,
                    sold: 0,
                });
            }
            Step::Reserve(wishes) => self.reserve(wishes).await?,
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
                let changed = self.count(Status::Canceled) - before;
                self.compare_batch(&batch, &answers, changed, 0).await?;
            }
            Step::Backdate(holds) => {
                for (hold, age) in holds {
                    self.backdate(*hold, *age).await;
                }
            }
            Step::Expire { product, max_rows } => {
                let (expected, id) = match self.products.get(*product) {
                    None => (0, ProductId::try_from(UNKNOWN).unwrap()),
                    Some(id) => {
                        let expected = self.reference.expire(*product, *max_rows as usize);
                        (expected, *id)
                    }
                };
                prop_assert_eq!(self.shop.expire(id, *max_rows).await, expected);
            }
            Step::Sweep { max_rows } => {
                let swept =
                    expire::sweep(&self.shop.pool, *max_rows, &self.shop.events, |_| true).await;
                prop_assert_eq!(swept.unwrap().expired, self.reference.sweep());
            }
        }
        Ok(())
    }

    async fn reserve(&mut self, wishes: &[Wish]) -> Result<(), TestCaseError> {
        let unknown = ProductId::try_from(UNKNOWN).unwrap();
        let requests: Vec<_> = wishes
            .iter()
            .map(|wish| {
                let product = self.products.get(wish.product).copied();
                units(product.unwrap_or(unknown), wish.user, wish.quantity.into())
            })
            .collect();
        let batch = self.shop.reserve(&requests).await;

        let stored = self.stored().await;
        let expired: Vec<usize> = (0..self.holds.len())
            .filter(|hold| {
                self.reference.holds[*hold].status == Status::Active
                    && stored[&self.holds[*hold]].status == "EXPIRED"
            })
            .collect();
        let wishes: Vec<Request> = wishes
            .iter()
            .map(|wish| Request {
                product: Some(wish.product).filter(|product| *product < self.products.len()),
                user: wish.user,
                quantity: wish.quantity,
            })
            .collect();
        let answers = self
            .reference
            .reserve(&wishes, &expired)
            .map_err(TestCaseError::fail)?;
        // The reference's new holds, in the order of the answers.
        let new = batch.answers.iter().flatten().map(|hold| hold.id);
        self.holds.extend(new);
        prop_assert_eq!(self.holds.len(), self.reference.holds.len(), "{:?}", batch);
        let changed = batch.answers.iter().flatten().count();
        self.compare_batch(&batch, &answers, changed, expired.len())
            .await?;
        for hold in batch.answers.iter().flatten() {
            let lasts = hold.expires_at - hold.created_at;
            prop_assert_eq!(lasts, Duration::seconds(HOLD_SECONDS.into()));
        }
        Ok(())
    }

    /// Only what is ACTIVE comes nearer its end; each deadline is another, so that their order is certain.
    async fn backdate(&mut self, hold: usize, age: i32) {
        let (Some(hold), _) = self.newest(hold) else {
            return;
        };
        if self.reference.holds[hold].status != Status::Active {
            return;
        }
        let due = hold as i32 - age * 1000;
        self.reference.holds[hold].due = Some(due);
        sqlx::query(
            "update reservations
            set expires_at = timestamptz '2001-01-01 00:00Z' + make_interval(secs => $2)
            where id = $1",
        )
        .bind(self.holds[hold])
        .bind(f64::from(due))
        .execute(&self.shop.pool)
        .await
        .unwrap();
    }

    /// The hold that is so far from the newest, if there is one, and its id.
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

    async fn compare_batch(
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
                Err(Refusal::ProductNotFound) => Answer::ProductNotFound,
                Err(Refusal::AlreadyReserved { reservation_id }) => {
                    Answer::AlreadyReserved(self.position(*reservation_id))
                }
                Err(Refusal::SoldOut { free }) => Answer::SoldOut(*free),
                Err(Refusal::ReservationNotFound) => Answer::ReservationNotFound,
                Err(Refusal::ReservationExpired) => Answer::Ended(Status::Expired),
                Err(Refusal::ReservationCanceled) => Answer::Ended(Status::Canceled),
                Err(Refusal::ReservationConfirmed) => Answer::Ended(Status::Confirmed),
                Err(refusal) => panic!("{refusal}"),
            })
            .collect();
        prop_assert_eq!(&answers[..], wanted);
        prop_assert_eq!(
            (batch.changed, batch.expired),
            (changed as u64, expired as u64)
        );
        // What was answered is what a reader is told, to the last field.
        let answered: Vec<&Reservation> = batch.answers.iter().flatten().collect();
        let ids: Vec<ReservationId> = answered.iter().map(|hold| hold.id).collect();
        let read = reservation::get(&self.shop.pool, &ids).await.unwrap();
        let read: Vec<Reservation> = read.into_iter().flatten().collect();
        prop_assert_eq!(format!("{answered:?}"), format!("{read:?}"));
        Ok(())
    }

    /// The answers name holds by id; one that nobody knows has no position.
    fn position(&self, id: ReservationId) -> usize {
        let position = self.holds.iter().position(|known| *known == id);
        position.unwrap_or(usize::MAX)
    }

    /// Every counter and every row, and how each reads.
    async fn compare(&self) -> Result<(), TestCaseError> {
        let products: Vec<Product> = product::list(&self.shop.pool)
            .await
            .unwrap()
            .into_iter()
            .map(|product| Product {
                stock: product.stock,
                held: product.held,
                sold: product.sold,
            })
            .collect();
        prop_assert_eq!(&products, &self.reference.products);

        let mut stored = self.stored().await;
        prop_assert_eq!(stored.len(), self.holds.len(), "rows and holds");
        let read = reservation::get(&self.shop.pool, &self.holds)
            .await
            .unwrap();
        for ((position, id), read) in self.holds.iter().enumerate().zip(read) {
            prop_assert_eq!(stored.remove(id).unwrap(), self.row(position));
            let read = read.unwrap();
            prop_assert_eq!(read.status, self.reference.effective(position));
            let expired_at = (read.status == Status::Expired).then_some(read.expires_at);
            prop_assert_eq!(read.expired_at, expired_at);
            prop_assert_eq!(
                read.confirmed_at.is_some(),
                read.status == Status::Confirmed
            );
            prop_assert_eq!(read.canceled_at.is_some(), read.status == Status::Canceled);
        }
        Ok(())
    }

    async fn stored(&self) -> HashMap<ReservationId, Row> {
        let rows: Vec<Row> = sqlx::query_as(
            "select id, product_id, user_id, quantity, status,
                (select count(*) from outbox_events e
                where (e.payload->>'reservation_id')::bigint = r.id) as events
            from reservations r",
        )
        .fetch_all(&self.shop.pool)
        .await
        .unwrap();
        rows.into_iter().map(|row| (row.id, row)).collect()
    }

    /// What the row of a hold has to say.
    fn row(&self, position: usize) -> Row {
        let hold = &self.reference.holds[position];
        let status = match hold.status {
            Status::Active => "ACTIVE",
            Status::Confirmed => "CONFIRMED",
            Status::Canceled => "CANCELED",
            Status::Expired => "EXPIRED",
            Status::Returned => "RETURNED",
        };
        Row {
            id: self.holds[position],
            product_id: self.products[hold.product],
            user_id: hold.user,
            quantity: hold.quantity,
            status: status.to_owned(),
            events: (hold.status == Status::Confirmed).into(),
        }
    }
}

/// A reservation as stored, and how many events tell of it.
#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Row {
    id: ReservationId,
    product_id: ProductId,
    user_id: i64,
    quantity: i32,
    status: String,
    events: i64,
}
