//! After a restore to an earlier moment: which events others received and this database does not know, and whether
//! commits wait for a standby.

use std::{collections::HashSet, time::Duration};

use serde::Serialize;
use sqlx::{FromRow, PgPool};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    Error, ProductId, Quantity, ReservationId, UserId,
    database::{execute, fetch},
    event::{Event, StockAdjusted},
    reservation::{self, Reservation, Status},
};

/// An event that a consumer has received.
pub struct Received {
    /// The property `message_id` of the message.
    pub message_id: Uuid,
    /// The message, if the consumer has kept it.
    pub event: Option<Event>,
}

/// A received event of which the database has no trace, and what to do about it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Lost {
    /// The property `message_id` of the message.
    pub message_id: Uuid,
    /// The message.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// Status of the event's reservation in the database. `None`: it does not exist, or is another user's.
    pub status_now: Option<Status>,
    /// What to do, for people.
    pub action: &'static str,
}

/// The events of which the database has no trace: neither a row of the outbox nor, after the purge of the outbox, the
/// change itself.
///
/// # Errors
///
/// PostgreSQL cannot be read.
pub async fn lost(pool: &PgPool, received: Vec<Received>) -> Result<Vec<Lost>, Error> {
    let ids: Vec<Uuid> = received.iter().map(|event| event.message_id).collect();
    let query = sqlx::query(
        "-- restored: events in the outbox
        select e.event_id from outbox_events e where e.event_id = any($1)",
    )
    .bind(ids);
    let known: Vec<(Uuid,)> = fetch(pool, query).await?;
    let known: HashSet<Uuid> = known.into_iter().map(|(id,)| id).collect();
    let unknown: Vec<Received> = received
        .into_iter()
        .filter(|event| !known.contains(&event.message_id))
        .collect();
    let now = changes(pool, &unknown).await?;
    let lost = unknown.into_iter().zip(now);
    Ok(lost
        .filter_map(|(received, now)| {
            let status_now = match now {
                Now::Done => return None,
                Now::Missing => None,
                Now::Reservation(status) => Some(status),
            };
            Some(Lost {
                message_id: received.message_id,
                action: action(received.event.as_ref(), status_now),
                event: received.event,
                status_now,
            })
        })
        .collect())
}

/// What the database knows about the change of an event.
#[derive(Clone, Copy)]
enum Now {
    /// The change is in the database.
    Done,
    /// The reservation is there, without the change.
    Reservation(Status),
    /// Nothing.
    Missing,
}

#[derive(FromRow)]
struct Adjustment {
    id: i64,
    product_id: ProductId,
    delta: i32,
}

async fn changes(pool: &PgPool, events: &[Received]) -> Result<Vec<Now>, Error> {
    let events: Vec<Option<&Event>> = events.iter().map(|event| event.event.as_ref()).collect();
    let ids: Vec<_> = events.iter().flatten().filter_map(|e| subject(e)).collect();
    let ids: Vec<ReservationId> = ids.into_iter().map(|subject| subject.0).collect();
    let found = reservation::get(pool, &ids).await?;
    let mut found = found.into_iter();
    let adjusted = events.iter().flatten().filter_map(|event| match event {
        Event::StockAdjusted(adjusted) => Some(adjusted.adjustment_id),
        _ => None,
    });
    let query = sqlx::query(
        "-- restored: stock adjustments
        select a.id, a.product_id, a.delta from stock_adjustments a where a.id = any($1)",
    )
    .bind(adjusted.collect::<Vec<i64>>());
    let adjustments: Vec<Adjustment> = fetch(pool, query).await?;
    let now = events.into_iter().map(|event| match event {
        None => Now::Missing,
        Some(Event::StockAdjusted(adjusted)) => adjustment(adjusted, &adjustments),
        Some(event) => change(event, found.next().flatten().as_ref()),
    });
    Ok(now.collect())
}

fn adjustment(event: &StockAdjusted, there: &[Adjustment]) -> Now {
    let done = there.iter().any(|adjustment| {
        (adjustment.id, adjustment.product_id, adjustment.delta)
            == (event.adjustment_id, event.product_id, event.delta)
    });
    if done { Now::Done } else { Now::Missing }
}

fn change(event: &Event, there: Option<&Reservation>) -> Now {
    let (Some(there), Some(subject)) = (there, subject(event)) else {
        return Now::Missing;
    };
    // An older release gave the id to somebody else.
    if subject != (there.id, there.product_id, there.user_id, there.quantity) {
        return Now::Missing;
    }
    let done = match event {
        Event::ReservationCreated(event) => event.created_at == there.created_at,
        Event::ReservationConfirmed(event) => Some(event.confirmed_at) == there.confirmed_at,
        Event::ReservationCanceled(event) => Some(event.canceled_at) == there.canceled_at,
        Event::ReservationExpired(event) => Some(event.expired_at) == there.expired_at,
        Event::ReservationReturned(event) => Some(event.returned_at) == there.returned_at,
        Event::WaitlistOffered(event) => event.offered_at == there.created_at,
        Event::StockAdjusted(_) => false,
    };
    match done {
        true => Now::Done,
        false => Now::Reservation(there.status),
    }
}

/// The event's reservation, product, user and number of units.
fn subject(event: &Event) -> Option<(ReservationId, ProductId, UserId, Quantity)> {
    macro_rules! of {
        ($event:expr) => {
            Some((
                $event.reservation_id,
                $event.product_id,
                $event.user_id,
                $event.quantity,
            ))
        };
    }
    match event {
        Event::ReservationCreated(event) => of!(event),
        Event::ReservationConfirmed(event) => of!(event),
        Event::ReservationCanceled(event) => of!(event),
        Event::ReservationExpired(event) => of!(event),
        Event::ReservationReturned(event) => of!(event),
        Event::WaitlistOffered(event) => of!(event),
        Event::StockAdjusted(_) => None,
    }
}

fn action(event: Option<&Event>, now: Option<Status>) -> &'static str {
    use Status::{Active, Confirmed, Expired};
    match (event, now) {
        (None, _) => "find the reservation of this message in the consumer's own records",
        (Some(Event::ReservationConfirmed(_)), Some(Active)) => "confirm the reservation again",
        (Some(Event::ReservationConfirmed(_)), Some(Expired)) => {
            "confirm the reservation with reacquire, or cancel the order"
        }
        (Some(Event::ReservationConfirmed(_)), _) => {
            "the sale is lost: reserve and confirm the units for this user again, or cancel the order"
        }
        (Some(Event::ReservationCreated(_) | Event::WaitlistOffered(_)), _) => {
            "the hold is lost: reserve the units for this user again, or tell the user"
        }
        (Some(Event::ReservationCanceled(_)), Some(Active)) => {
            "cancel the reservation again, or let it expire"
        }
        (Some(Event::ReservationReturned(_)), Some(Confirmed)) => "return the units again",
        (Some(Event::StockAdjusted(_)), _) => {
            "count the units, and adjust the stock again if it is wrong"
        }
        (Some(_), _) => "nothing: the reservation holds no units",
    }
}

/// Whether a commit waits for a standby for longer than `limit`. Returns the value of `synchronous_standby_names` then.
///
/// # Errors
///
/// PostgreSQL does not answer, or the role is not the schema's owner.
pub async fn waits_for_standby(pool: &PgPool, limit: Duration) -> Result<Option<String>, Error> {
    let setting = sqlx::query(
        "-- restored: standbys\nselect current_setting('synchronous_standby_names') as names",
    );
    let names: Vec<(String,)> = fetch(pool, setting).await?;
    let Some((names,)) = names
        .into_iter()
        .next()
        .filter(|(names,)| !names.is_empty())
    else {
        return Ok(None);
    };
    // Any write will do.
    let write = sqlx::query("-- restored: a commit\nupdate id_epoch set since = since");
    // The session that waits is left: PostgreSQL ends it when the standby confirms, or the setting changes.
    let committed = timeout(limit, execute(pool, write)).await;
    match committed {
        Ok(committed) => committed.map(|_| None),
        Err(_) => Ok(Some(names)),
    }
}
