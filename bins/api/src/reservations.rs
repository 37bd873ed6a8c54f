//! `/reservations`

use std::str::FromStr;

use axum::{
    extract::{FromRequestParts, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use inventory::{
    ProductId, Quantity, ReservationId, UserId,
    reservation::{self, Filter, Refusal},
    reserve::Reserve,
};
use serde::Deserialize;

use crate::{
    AppState, Problem,
    answer::Answer,
    extract::{Id, Json, NoBody, query_pairs},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateReservation {
    product_id: ProductId,
    user_id: UserId,
}

pub(crate) async fn reserve(
    State(state): State<AppState>,
    Json(body): Json<CreateReservation>,
) -> Result<Response, Problem> {
    let request = Reserve {
        product_id: body.product_id,
        user_id: body.user_id,
        quantity: Quantity::ONE,
    };
    let hold = state.reserve.ask(body.product_id.get(), request).await??;
    let location = [(header::LOCATION, format!("/reservations/{}", hold.id))];
    Ok((StatusCode::CREATED, location, Answer(hold)).into_response())
}

pub(crate) async fn get(
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
) -> Result<Response, Problem> {
    match state.reservation.ask(id.get(), id).await? {
        Some(reservation) => Ok(Answer(reservation).into_response()),
        None => Err(Refusal::ReservationNotFound.into()),
    }
}

pub(crate) async fn confirm(
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Response, Problem> {
    Ok(Answer(state.confirm.ask(id.get(), id).await??).into_response())
}

pub(crate) async fn cancel(
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Response, Problem> {
    Ok(Answer(state.cancel.ask(id.get(), id).await??).into_response())
}

pub(crate) async fn list(page: Page, State(state): State<AppState>) -> Result<Response, Problem> {
    let pool = state.pool.clone();
    let listed = state.call("list_reservations", async move {
        reservation::list(&pool, page.filter, page.limit, page.offset).await
    });
    Ok(Answer(listed.await?).into_response())
}

/// Which reservations to list, and how many.
pub(crate) struct Page {
    filter: Filter,
    limit: i64,
    offset: i64,
}

impl FromRequestParts<AppState> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let mut page = Self {
            filter: Filter::default(),
            limit: 20,
            offset: 0,
        };
        for (name, value) in query_pairs(parts)? {
            let value = value.as_str();
            match name.as_str() {
                "user_id" => page.filter.user_id = Some(id(&name, value)?),
                "product_id" => page.filter.product_id = Some(id(&name, value)?),
                "status" => page.filter.status = Some(parsed(&name, value)?),
                "limit" => page.limit = within(&name, value, 1, 100)?,
                "offset" => page.offset = within(&name, value, 0, i64::MAX)?,
                _ => {
                    return Err(Problem::InvalidQuery(format!(
                        "there is no parameter {name}"
                    )));
                }
            }
        }
        Ok(page)
    }
}

fn parsed<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value
        .parse()
        .map_err(|_| Problem::InvalidQuery(format!("{name} cannot be {value:?}")))
}

fn within(name: &str, value: &str, least: i64, most: i64) -> Result<i64, Problem> {
    // i64's own parser would also take "+1".
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            Problem::InvalidQuery(format!(
                "{name} must be a whole number from {least} to {most}"
            ))
        })
}

fn id<T: TryFrom<i64>>(name: &str, value: &str) -> Result<T, Problem> {
    T::try_from(within(name, value, 1, i64::MAX)?)
        .map_err(|_| Problem::InvalidQuery(format!("{name} must be a positive number")))
}
