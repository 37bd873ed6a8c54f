//! Answers about products that have moved to another cell, and their reservations. Without this, they would be answered as
//! unknown: a shop would take a hold for lost that another cell has.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use inventory::{
    ProductId, ReservationId,
    moved::{self, Subject, Whereabouts},
};

use crate::{
    Problem,
    code::ProblemCode,
    extract::digits,
    idempotency::Rendered,
    lane_builder::LaneBuilder,
    problem::ProblemReport,
    skus::{Named, Skus},
};

/// The id in a path such as `/products/7/stock`.
pub(crate) fn id_in(path: &str) -> Option<i64> {
    digits(path.split('/').nth(2)?)
}

/// Answers a request about one product, which its body names by id or SKU.
pub(crate) async fn about_one<A>(
    skus: &Skus,
    named: &Named,
    answer: impl AsyncFnOnce(ProductId) -> Result<Rendered<A>, Problem>,
) -> Result<Rendered<A>, Problem> {
    let answered = match skus.resolve(named).await {
        Ok(product_id) => {
            let answered = answer(product_id).await;
            skus.forget_unknown(named, &answered);
            answered
        }
        Err(problem) => Err(problem),
    };
    about(named, answered)
}

/// Notes what the request was about, for an answer that says that it does not exist.
fn about<A>(named: &Named, answer: Result<Rendered<A>, Problem>) -> Result<Rendered<A>, Problem> {
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

/// Asks where something is that is not here. A flood of requests for unknown ids needs one statement at a time.
pub(crate) type Lanes = lanes::Lanes<Subject, Option<Whereabouts>>;

pub(crate) fn start(builder: &LaneBuilder) -> Lanes {
    let find = async |pool, subjects: Vec<Subject>| moved::moved(&pool, &subjects).await;
    builder.lanes("moved", 1, find)
}

/// The answer to a request, or that its product is in another cell. `id` is the id in the path.
pub(crate) async fn follow(lanes: &'static Lanes, id: Option<i64>, answer: Response) -> Response {
    match answer.status() {
        // In a box, because every request would otherwise have the memory that this call needs.
        StatusCode::NOT_FOUND => Box::pin(ask(lanes, id, answer)).await,
        _ => answer,
    }
}

async fn ask(lanes: &'static Lanes, id: Option<i64>, answer: Response) -> Response {
    let Some(subject) = subject(&answer, id) else {
        return answer;
    };
    // Each has its equal share of the queue.
    let share = match &subject {
        Subject::Product(id) => id.get(),
        Subject::Reservation(id) => id.get(),
        Subject::Sku(_) => 0,
    };
    match lanes.ask(share, subject).await {
        Ok(None) => answer,
        Ok(Some(Whereabouts::Cell(cell))) => instead(answer, Problem::ProductMoved(cell)),
        // Not "not found": a client would take a hold for lost. Nothing was done.
        Ok(Some(Whereabouts::OnItsWay)) | Err(_) => instead(answer, Problem::Overloaded),
    }
}

/// The problem in place of `answer`. It keeps the headers that layers have added, such as those of CORS.
fn instead(mut answer: Response, problem: Problem) -> Response {
    let (parts, body) = problem.into_response().into_parts();
    *answer.status_mut() = parts.status;
    *answer.body_mut() = body;
    answer.extensions_mut().extend(parts.extensions);
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer.headers_mut().extend(parts.headers);
    answer
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
