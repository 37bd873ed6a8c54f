//! Answers about products that have moved to another cell, and their reservations. Without this, they would be answered as
//! unknown: a shop would take a hold for lost that another cell has.

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use inventory::{
    ProductId, ReservationId,
    moved::{self, Subject, Whereabouts},
};

use crate::{
    Problem, bulkhead::Bulkhead, code::ProblemCode, extract::digits, idempotency::Rendered,
    problem::ProblemReport, skus::Named,
};

/// The id in a path such as `/products/7/stock`.
pub(crate) fn id_in(path: &str) -> Option<i64> {
    digits(path.split('/').nth(2)?)
}

/// Notes what the request was about, for an answer that says that it does not exist.
pub(crate) fn about<A>(
    named: &Named,
    answer: Result<Rendered<A>, Problem>,
) -> Result<Rendered<A>, Problem> {
    let mut response = match answer {
        Err(problem) if problem.code() == ProblemCode::ProductNotFound => {
            Rendered::of(problem.into_response())
        }
        answer => answer?,
    };
    if let Some(report) = response.extensions_mut().get_mut::<ProblemReport>() {
        report.subject = Some(match named {
            Named::Id(id) => Subject::Product(*id),
            Named::Sku(sku) => Subject::Sku(sku.clone()),
        });
    }
    Ok(response)
}

/// The answer to a request, or that its product is in another cell. `id` is the id in the path.
pub(crate) async fn follow(
    bulkhead: &'static Bulkhead,
    id: Option<i64>,
    answer: Response,
) -> Response {
    match answer.status() {
        // In a box, because every request would otherwise have the memory that this call needs. That took a fifth of the
        // server's time.
        StatusCode::NOT_FOUND => Box::pin(ask(bulkhead, id, answer)).await,
        _ => answer,
    }
}

async fn ask(bulkhead: &'static Bulkhead, id: Option<i64>, answer: Response) -> Response {
    let Some(subject) = subject(&answer, id) else {
        return answer;
    };
    let pool = bulkhead.pool();
    let whereabouts = async move { moved::moved(&pool, &subject).await };
    match bulkhead.execute("moved", whereabouts).await {
        Ok(None) => answer,
        Ok(Some(Whereabouts::Cell(cell))) => Problem::ProductMoved(cell).into_response(),
        // Not "not found": a client would take a hold for lost. Nothing was done.
        Ok(Some(Whereabouts::OnItsWay)) | Err(_) => Problem::Overloaded.into_response(),
    }
}

/// What it is that does not exist.
fn subject(answer: &Response, id: Option<i64>) -> Option<Subject> {
    let report = answer.extensions().get::<ProblemReport>()?;
    let in_path = || match report.code {
        ProblemCode::ProductNotFound => ProductId::try_from(id?).ok().map(Subject::Product),
        _ => ReservationId::try_from(id?).ok().map(Subject::Reservation),
    };
    match report.code {
        ProblemCode::ProductNotFound | ProblemCode::ReservationNotFound => {
            report.subject.clone().or_else(in_path)
        }
        _ => None,
    }
}
