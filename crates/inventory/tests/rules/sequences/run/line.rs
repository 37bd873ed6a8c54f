//! The steps of waitlists.

use inventory::{
    ProductId, ReservationId, WaitlistEntryId,
    join_waitlist::{Join, join_waitlist},
    leave_waitlist::leave_waitlist,
    waitlist::{self, Entry, EntryStatus, Filter, Order, Page},
};
use proptest::{prelude::*, test_runner::TestCaseError};

use super::{Run, UNKNOWN, Wish, reference_of};
use crate::{sequences::reference::Answer, support::HOLD_SECONDS};

/// Most entries of a sequence: more than it has steps.
const ALL: i64 = 1_000;

impl Run<'_> {
    pub(super) async fn join(&mut self, wish: &Wish) -> Result<(), TestCaseError> {
        let (requests, known) = self.requests(std::slice::from_ref(wish));
        let request = Join {
            product_id: requests[0].product_id,
            user_id: requests[0].user_id,
            quantity: requests[0].quantity,
            reference: requests[0].reference.clone(),
        };
        let (wanted, expired) = self.reference.join(&known[0]);
        let (pool, events) = (&self.shop.pool, &self.shop.events);
        let joined = join_waitlist(pool, &request, HOLD_SECONDS, events).await;
        let joined = joined.unwrap();
        if let Ok(entry) = &joined.answer {
            self.entries.push(entry.id);
        }
        let offered = self.offered().await;
        prop_assert_eq!((joined.expired, joined.offered), (expired, offered));
        self.compare_entry_answer(joined.answer, wanted, Answer::Joined)
            .await
    }

    pub(super) async fn leave(&mut self, back: usize) -> Result<(), TestCaseError> {
        let place = self.entries.len().checked_sub(back + 1);
        let id = match place {
            Some(place) => self.entries[place],
            None => WaitlistEntryId::try_from(UNKNOWN).unwrap(),
        };
        let wanted = self.reference.leave(place);
        let left = leave_waitlist(&self.shop.pool, id, &self.shop.events).await;
        let left = left.unwrap();
        let offered = self.offered().await;
        prop_assert_eq!(left.offered, offered);
        self.compare_entry_answer(left.answer, wanted, Answer::Left)
            .await
    }

    /// The answer is the wanted one, and equals a later read in every field.
    async fn compare_entry_answer(
        &self,
        answer: Result<Entry, inventory::reservation::Refusal>,
        wanted: Answer,
        granted: fn(usize) -> Answer,
    ) -> Result<(), TestCaseError> {
        if let Ok(entry) = &answer {
            let read = waitlist::get(&self.shop.pool, entry.id).await.unwrap();
            prop_assert_eq!(Some(entry), read.as_ref());
        }
        let answer = answer.map_or_else(
            |refusal| self.refusal(&refusal),
            |entry| granted(self.place(entry.id)),
        );
        prop_assert_eq!(answer, wanted);
        Ok(())
    }

    /// Adds the holds that the reference has offered, by what PostgreSQL has stored. Returns their number.
    pub(super) async fn offered(&mut self) -> u64 {
        let mut offered = 0;
        for position in self.holds.len()..self.reference.holds.len() {
            let mut entries = self.reference.entries.iter();
            let Some(place) = entries.position(|entry| entry.hold == Some(position)) else {
                break;
            };
            let hold: Option<ReservationId> =
                sqlx::query_scalar("select reservation_id from waitlist_entries where id = $1")
                    .bind(self.entries[place])
                    .fetch_one(&self.shop.pool)
                    .await
                    .unwrap();
            // An entry without a hold differs from the reference, and its row will be compared.
            self.holds
                .push(hold.unwrap_or_else(|| crate::support::reservation_id(UNKNOWN)));
            offered += 1;
        }
        offered
    }

    /// The place of an entry in the reference. Unknown ids have none.
    pub(in super::super) fn place(&self, id: WaitlistEntryId) -> usize {
        let place = self.entries.iter().position(|known| *known == id);
        place.unwrap_or(usize::MAX)
    }

    /// Compares every entry as stored and as read, and the events of the offers.
    pub(in super::super) async fn compare_entries(&self) -> Result<(), TestCaseError> {
        let page = Page {
            order: Order::Oldest,
            after: None,
            limit: ALL,
        };
        let read = waitlist::list(&self.shop.pool, &Filter::default(), page).await;
        let read = read.unwrap();
        prop_assert_eq!(read.len(), self.reference.entries.len());
        for (place, (read, entry)) in read.iter().zip(&self.reference.entries).enumerate() {
            let line = self.reference.line(entry.product);
            let position = line.iter().position(|other| *other == place);
            let reference = entry.named.then(|| reference_of(entry.user));
            prop_assert_eq!(
                (
                    read.id,
                    read.product_id,
                    read.user_id.get(),
                    read.quantity.get()
                ),
                (
                    self.entries[place],
                    self.products[entry.product],
                    entry.user,
                    entry.quantity
                )
            );
            prop_assert_eq!(read.status, entry.status);
            prop_assert_eq!(
                (read.reservation_id, read.position),
                (
                    entry.hold.map(|hold| self.holds[hold]),
                    position.map(|position| position as i64 + 1)
                )
            );
            prop_assert_eq!(
                read.reference.as_ref().map(|it| it.as_str()),
                reference.as_deref()
            );
            prop_assert_eq!(
                read.ended_at.is_none(),
                entry.status == EntryStatus::Waiting
            );
        }
        self.compare_offers(&read).await
    }

    /// One event for each offer, with the times of the hold.
    async fn compare_offers(&self, entries: &[Entry]) -> Result<(), TestCaseError> {
        let told: Vec<(WaitlistEntryId, ReservationId, ProductId)> = sqlx::query_as(
            "select e.id, r.id, r.product_id
            from outbox_events o
            join waitlist_entries e on e.id = (o.payload->'entry_id')::bigint
            join reservations r on r.id = (o.payload->'reservation_id')::bigint
                and r.user_id = (o.payload->'user_id')::bigint
                and r.product_id = (o.payload->'product_id')::bigint
                and r.quantity = (o.payload->'quantity')::integer
                and r.reference is not distinct from o.payload->>'reference'
                and r.created_at = (o.payload->>'offered_at')::timestamptz
                and r.created_at = e.ended_at and o.created_at = r.created_at
            where o.event_type = 'WaitlistOffered'
            order by e.id",
        )
        .fetch_all(&self.shop.pool)
        .await
        .unwrap();
        let offered = entries.iter().filter_map(|entry| {
            let hold = entry.reservation_id?;
            Some((entry.id, hold, entry.product_id))
        });
        prop_assert_eq!(told, offered.collect::<Vec<_>>());
        Ok(())
    }
}
