//! leave waitlist: ends a waiting entry at the user's wish.

use sqlx::{FromRow as _, Row as _};

use crate::{
    Error, WaitlistEntryId,
    database::{Executor, execute},
    event::Events,
    reservation::Refusal,
    transition::{Transition, offered},
    waitlist::{Entry, EntryStatus},
};

/// Result of [`leave_waitlist`].
#[derive(Debug)]
pub struct Left {
    /// The entry, or the refusal.
    pub answer: Result<Entry, Refusal>,
    /// Whether this call ended the entry. A repeat does not.
    pub changed: bool,
    /// Number of holds that the call offered to those behind the entry.
    pub offered: u64,
}

impl Left {
    /// The transitions that this call made.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> + Clone {
        offered(self.offered).into_iter()
    }
}

/// Ends a WAITING entry. Those behind it move up. An entry that has LEFT already gets the same answer again.
///
/// Refuses with [`Refusal::WaitlistEntryNotFound`], [`Refusal::WaitlistEntryOffered`] and
/// [`Refusal::WaitlistEntryClosed`].
pub async fn leave_waitlist(
    executor: impl Into<Executor<'_>>,
    id: WaitlistEntryId,
    events: &Events,
) -> Result<Left, Error> {
    let query = sqlx::query(
        "-- leave waitlist
        select changed, offered, (entry).id, (entry).product_id, (entry).user_id, (entry).quantity, (entry).status,
            (entry).reservation_id, (entry).reference, (entry).created_at, (entry).ended_at,
            null::bigint as position
        from leave_waitlist_v1($1, $2)",
    )
    .bind(id)
    .bind(events.types());
    let rows = execute(executor, query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let offered: i64 = row.try_get("offered")?;
    let found: Option<WaitlistEntryId> = row.try_get("id")?;
    Ok(Left {
        answer: match found {
            Some(_) => answer(Entry::from_row(row)?),
            None => Err(Refusal::WaitlistEntryNotFound),
        },
        changed: row.try_get("changed")?,
        offered: offered.unsigned_abs(),
    })
}

fn answer(entry: Entry) -> Result<Entry, Refusal> {
    match (entry.status, entry.reservation_id) {
        (EntryStatus::Left, _) => Ok(entry),
        (_, Some(reservation_id)) => Err(Refusal::WaitlistEntryOffered { reservation_id }),
        _ => Err(Refusal::WaitlistEntryClosed),
    }
}
