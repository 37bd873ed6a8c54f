//! `POST /waitlist/{id}/leave`

use axum::extract::State;
use futures_util::FutureExt as _;
use inventory::{WaitlistEntryId, leave_waitlist, waitlist::Entry};

use crate::{
    Problem,
    answer::Answer,
    auth::ActingClient,
    bulkhead::{About, Bulkhead},
    code::ProblemCode,
    extract::{Id, NoBody},
    idempotency::{Keyed, Rendered},
    openapi::Operation,
    sale::Sale,
};

pub(crate) fn operation() -> Operation {
    Operation::new("leaveWaitlist", "Leave the line; those behind move up")
        .explained("A repeat has no second effect.")
        .refuses(&[
            ProblemCode::WaitlistEntryOffered,
            ProblemCode::WaitlistEntryClosed,
        ])
}

pub(crate) async fn leave_waitlist(
    _: ActingClient,
    Id(id): Id<WaitlistEntryId>,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Keyed(key, _): Keyed<NoBody>,
) -> Result<Rendered<Answer<Entry>>, Problem> {
    let once = bulkhead.execute_once(
        "leave_waitlist",
        About::Unknown,
        key,
        move |executor| {
            async move { leave_waitlist::leave_waitlist(executor, id, &sale.events).await }.boxed()
        },
        |after_commit, left| after_commit.tell(left.transitions()),
        |left| {
            let entry = left.answer.clone()?;
            Ok(Answer(entry))
        },
    );
    once.await
}
