//! `/reservations`

use std::{collections::HashSet, str::FromStr};

use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
};
use inventory::{
    ProductId, Quantity, ReservationId, Seconds, UserId,
    extend::Extend,
    reacquire,
    reservation::{self, Filter, Reference, Refusal, Reservation, Status},
    reserve::Reserve,
    reserve_together, return_sold,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    AppState, Problem,
    answer::{AllCreated, Answer, Created},
    code::Code,
    contract::{Describe, Operation, Schemas},
    extract::{Admin, Id, Json, NoBody, OptionalJson, query_pairs},
};

/// Most products that are reserved together.
const TOGETHER_MAX_ITEMS: usize = 100;

/// Units to hold for a user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateReservation {
    #[schemars(example = 1)]
    product_id: ProductId,
    #[schemars(example = 42)]
    user_id: UserId,
    #[serde(default = "one")]
    quantity: Quantity,
    /// Your own name for it, an order say: stored, shown and searchable.
    reference: Option<Reference>,
}

/// Units of different products, to hold for a user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTogether {
    #[schemars(example = 42)]
    user_id: UserId,
    #[schemars(length(min = 1, max = TOGETHER_MAX_ITEMS), example = json!([{ "product_id": 1, "quantity": 2 }]))]
    items: Vec<Item>,
    /// Your own name for it, an order say: stored, shown and searchable.
    reference: Option<Reference>,
}

#[derive(Deserialize, JsonSchema)]
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
    State(state): State<AppState>,
    Json(body): Json<CreateReservation>,
) -> Result<Created<Reservation>, Problem> {
    let request = Reserve {
        product_id: body.product_id,
        user_id: body.user_id,
        quantity: body.quantity,
        reference: body.reference,
    };
    let hold = state.reserve.ask(body.product_id.get(), request).await??;
    Ok(Created {
        path: format!("/reservations/{}", hold.id),
        body: hold,
    })
}

/// Not by a lane: what waits for several products must not make each of their lanes wait.
pub(crate) async fn reserve_together(
    State(state): State<AppState>,
    Json(body): Json<CreateTogether>,
) -> Result<AllCreated<Reservation>, Problem> {
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
        Ok(holds) => Ok(AllCreated(holds)),
        Err((product_id, refusal)) => Err(Problem::RefusedOf(product_id, refusal)),
    }
}

pub(crate) async fn get(
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
) -> Result<Answer<Reservation>, Problem> {
    match state.reservation.ask(id.get(), id).await? {
        Some(reservation) => Ok(Answer(reservation)),
        None => Err(Refusal::ReservationNotFound.into()),
    }
}

/// How to confirm.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirm {
    /// Whether to sell the units of an expired hold all the same, if they are free.
    #[serde(default)]
    reacquire: bool,
}

pub(crate) async fn confirm(
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    OptionalJson(body): OptionalJson<Confirm>,
) -> Result<Answer<Reservation>, Problem> {
    let confirmed = match state.confirm.ask(id.get(), id).await? {
        Err(Refusal::ReservationExpired) if body.reacquire => reacquire(&state, id).await?,
        verdict => verdict,
    };
    Ok(Answer(confirmed?))
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
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Answer<Reservation>, Problem> {
    Ok(Answer(state.cancel.ask(id.get(), id).await??))
}

/// More time for a hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoreTime {
    /// From now.
    #[schemars(example = 400)]
    seconds: Seconds,
}

pub(crate) async fn extend(
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    Json(body): Json<MoreTime>,
) -> Result<Answer<Reservation>, Problem> {
    let request = Extend {
        id,
        seconds: body.seconds,
    };
    Ok(Answer(state.extend.ask(id.get(), request).await??))
}

pub(crate) async fn return_sold(
    _: Admin,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    _: NoBody,
) -> Result<Answer<Reservation>, Problem> {
    let (pool, events) = (state.pool.clone(), state.events.clone());
    let returned = state.call("return", async move {
        let batch = return_sold::return_sold(&pool, &[id], &events).await?;
        Ok(batch.answers)
    });
    Ok(Answer(only(returned.await?)??))
}

pub(crate) async fn list(
    page: Page,
    State(state): State<AppState>,
) -> Result<Answer<Vec<Reservation>>, Problem> {
    let pool = state.pool.clone();
    let listed = state.call("list_reservations", async move {
        reservation::list(&pool, &page.filter, page.limit, page.offset).await
    });
    Ok(Answer(listed.await?))
}

/// How many reservations a page has at most, and how many unless told otherwise.
const LIMIT_MAX: i64 = 100;
const LIMIT_DEFAULT: i64 = 20;

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
            limit: LIMIT_DEFAULT,
            offset: 0,
        };
        for (name, value) in query_pairs(parts)? {
            let value = value.as_str();
            match name.as_str() {
                "user_id" => page.filter.user_id = Some(id(&name, value)?),
                "product_id" => page.filter.product_id = Some(id(&name, value)?),
                "reference" => page.filter.reference = Some(parsed(&name, value)?),
                "status" => page.filter.status = Some(parsed(&name, value)?),
                "limit" => page.limit = within(&name, value, 1, LIMIT_MAX)?,
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

impl Describe for Page {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let mut parameter = |name: &str, description: &str, schema: Value| {
            operation.parameter(json!({
                "name": name,
                "in": "query",
                "description": description,
                "schema": schema,
            }));
        };
        parameter("user_id", "Only this user's.", schemas.taken::<UserId>());
        parameter(
            "product_id",
            "Only this product's.",
            schemas.taken::<ProductId>(),
        );
        parameter(
            "reference",
            "Only those with this reference.",
            schemas.taken::<Reference>(),
        );
        parameter(
            "status",
            "Only those with this effective status.",
            schemas.given::<Status>(),
        );
        let limit = json!({
            "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT,
        });
        parameter("limit", "Most reservations in the answer.", limit);
        let offset = json!({
            "type": "integer", "format": "int64", "minimum": 0, "default": 0,
        });
        parameter("offset", "How many to leave out before them.", offset);
        operation.refuse(&[Code::InvalidQuery]);
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
