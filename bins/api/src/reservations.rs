//! `/reservations`

use std::{collections::HashSet, str::FromStr};

use axum::{
    extract::{FromRequestParts, State},
    http::{StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use inventory::{
    ProductId, Quantity, ReservationId, Seconds, UserId,
    extend::Extend,
    list::{self, Filter, Page},
    reacquire,
    reservation::{Reference, Refusal, Reservation},
    reserve::Reserve,
    reserve_together, return_sold,
};
use serde::Deserialize;

use crate::{
    AppState, Problem,
    answer::Answer,
    extract::{Admin, Id, Json, NoBody, OptionalJson, query_pairs},
    keys::Client,
    paging,
};

/// Most products that are reserved together.
const TOGETHER_MAX_ITEMS: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateReservation {
    product_id: ProductId,
    user_id: UserId,
    #[serde(default = "one")]
    quantity: Quantity,
    reference: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTogether {
    user_id: UserId,
    items: Vec<Item>,
    reference: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    product_id: ProductId,
    #[serde(default = "one")]
    quantity: Quantity,
}

fn one() -> Quantity {
    Quantity::ONE
}

pub(crate) async fn reserve(
    _: Client,
    State(state): State<AppState>,
    Json(body): Json<CreateReservation>,
) -> Result<Response, Problem> {
    let request = Reserve {
        product_id: body.product_id,
        user_id: body.user_id,
        quantity: body.quantity,
        reference: body.reference,
    };
    let hold = state.reserve.ask(body.product_id.get(), request).await??;
    let location = [(header::LOCATION, format!("/reservations/{}", hold.id))];
    Ok((StatusCode::CREATED, location, Answer(hold)).into_response())
}

/// Not by a lane: what waits for several products must not make each of their lanes wait.
pub(crate) async fn reserve_together(
    _: Client,
    State(state): State<AppState>,
    Json(body): Json<CreateTogether>,
) -> Result<Response, Problem> {
    let mut products = HashSet::new();
    if let Some(twice) = body
        .items
        .iter()
        .find(|item| !products.insert(item.product_id))
    {
        let detail = format!("items name product {} twice", twice.product_id);
        return Err(Problem::InvalidRequest(detail));
    }
    if !(1..=TOGETHER_MAX_ITEMS).contains(&body.items.len()) {
        let detail = format!("items must be 1 to {TOGETHER_MAX_ITEMS}");
        return Err(Problem::InvalidRequest(detail));
    }
    let requests: Vec<Reserve> = body
        .items
        .into_iter()
        .map(|item| Reserve {
            product_id: item.product_id,
            user_id: body.user_id,
            quantity: item.quantity,
            reference: body.reference.clone(),
        })
        .collect();
    let (pool, books, events) = (
        state.pool.clone(),
        state.books.clone(),
        state.events.clone(),
    );
    let hold_seconds = state.hold_seconds;
    let together = async move {
        let together =
            reserve_together::reserve_together(&pool, &requests, hold_seconds, &events).await?;
        books.reserved(together.answer.iter().flatten(), together.expired);
        Ok(together.answer)
    };
    match state.call("reserve_together", together).await? {
        Ok(holds) => Ok((StatusCode::CREATED, Answer(holds)).into_response()),
        Err((product_id, refusal)) => Err(Problem::RefusedOf(product_id, refusal)),
    }
}

pub(crate) async fn get(
    _: Client,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
) -> Result<Response, Problem> {
    match state.reservation.ask(id.get(), id).await? {
        Some(reservation) => Ok(Answer(reservation).into_response()),
        None => Err(Refusal::ReservationNotFound.into()),
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirm {
    /// Whether to sell the units of an expired hold all the same, if they are free.
    #[serde(default)]
    reacquire: bool,
}

pub(crate) async fn confirm(
    _: Client,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    OptionalJson(body): OptionalJson<Confirm>,
) -> Result<Response, Problem> {
    let confirmed = match state.confirm.ask(id.get(), id).await? {
        Err(Refusal::ReservationExpired) if body.reacquire => reacquire(&state, id).await?,
        verdict => verdict,
    };
    Ok(Answer(confirmed?).into_response())
}

async fn reacquire(
    state: &AppState,
    id: ReservationId,
) -> Result<Result<Reservation, Refusal>, Problem> {
    let (pool, books, events) = (
        state.pool.clone(),
        state.books.clone(),
        state.events.clone(),
    );
    let reacquire = async move {
        let batch = reacquire::reacquire(&pool, id, &events).await?;
        books.reacquired(&batch);
        Ok(batch.answers)
    };
    only(state.call("reacquire", reacquire).await?)
}

/// The only answer of a call with one request.
fn only<T>(answers: Vec<T>) -> Result<T, Problem> {
    answers.into_iter().next().ok_or(Problem::Internal)
}

pub(crate) async fn cancel(
    _: Client,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Response, Problem> {
    Ok(Answer(state.cancel.ask(id.get(), id).await??).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoreTime {
    seconds: Seconds,
}

pub(crate) async fn extend(
    _: Client,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    Json(body): Json<MoreTime>,
) -> Result<Response, Problem> {
    let request = Extend {
        id,
        seconds: body.seconds,
    };
    Ok(Answer(state.extend.ask(id.get(), request).await??).into_response())
}

pub(crate) async fn return_sold(
    _: Admin,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Response, Problem> {
    let (pool, events) = (state.pool.clone(), state.events.clone());
    let returned = state.call("return", async move {
        let batch = return_sold::return_sold(&pool, &[id], &events).await?;
        Ok(batch.answers)
    });
    Ok(Answer(only(returned.await?)??).into_response())
}

pub(crate) async fn list(
    _: Client,
    Listed { filter, mut page }: Listed,
    uri: Uri,
    State(state): State<AppState>,
) -> Result<Response, Problem> {
    let pool = state.pool.clone();
    let limit = page.limit;
    let listed = state.call("list_reservations", async move {
        // One more tells whether there is a next page.
        page.limit += 1;
        list::list(&pool, &filter, page).await
    });
    let mut reservations = listed.await?;
    let more = paging::cut(&mut reservations, limit);
    let next = more.then(|| paging::next(&uri, reservations.last().map(|last| last.id.get())));
    Ok((next, Answer(reservations)).into_response())
}

/// Which reservations to list.
pub(crate) struct Listed {
    filter: Filter,
    page: Page,
}

impl FromRequestParts<AppState> for Listed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let mut filter = Filter::default();
        let mut page = Page {
            limit: paging::DEFAULT_LIMIT,
            offset: 0,
            after: None,
        };
        let mut offset = None;
        for (name, value) in query_pairs(parts)? {
            let value = value.as_str();
            match name.as_str() {
                "user_id" => filter.user_id = Some(paging::id(&name, value)?),
                "product_id" => filter.product_id = Some(paging::id(&name, value)?),
                "reference" => filter.reference = Some(parsed(&name, value)?),
                "status" => filter.status = Some(parsed(&name, value)?),
                "limit" => page.limit = paging::limit(&name, value)?,
                "offset" => offset = Some(paging::within(&name, value, 0, i64::MAX)?),
                "after_id" => page.after = Some(paging::id(&name, value)?),
                _ => return Err(paging::unknown(&name)),
            }
        }
        if offset.is_some() && page.after.is_some() {
            return Err(Problem::InvalidQuery(
                "after_id and offset do not go together".to_owned(),
            ));
        }
        page.offset = offset.unwrap_or(0);
        Ok(Self { filter, page })
    }
}

fn parsed<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value
        .parse()
        .map_err(|_| Problem::InvalidQuery(format!("{name} cannot be {value:?}")))
}
