//! `/reservations`

use std::{collections::HashSet, str::FromStr};

use axum::{
    extract::{FromRequestParts, State},
    http::{Uri, request::Parts},
};
use futures_util::FutureExt as _;
use inventory::{
    ProductId, Quantity, ReservationId, Seconds, UserId,
    extend::Extend,
    list::{self, Filter, Page},
    reacquire,
    reservation::{Batch, Reference, Refusal, Reservation, Status},
    reserve::Reserve,
    reserve_together, return_sold,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    AppState, Problem,
    answer::{AllCreated, Answer, Created},
    contract::{Describe, Operation, Schemas},
    extract::{Admin, Id, Json, NoBody, OptionalJson, query_pairs},
    idempotency::{Keyed, Rendered},
    keys::Client,
    paging::{self, Paged},
    verb::Verdict,
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
    _: Client,
    State(state): State<AppState>,
    Keyed(key, Json(body)): Keyed<Json<CreateReservation>>,
) -> Result<Rendered<Created<Reservation>>, Problem> {
    let request = Reserve {
        product_id: body.product_id,
        user_id: body.user_id,
        quantity: body.quantity,
        reference: body.reference,
    };
    state
        .reserve
        .answer(body.product_id.get(), key, request)
        .await
}

/// A verdict on a hold that was to be made.
pub(crate) fn reserved(verdict: Verdict) -> Result<Created<Reservation>, Problem> {
    let body = verdict?;
    let path = format!("/reservations/{}", body.id);
    Ok(Created { path, body })
}

/// A verdict on a reservation that was there.
pub(crate) fn shown(verdict: Verdict) -> Result<Answer<Reservation>, Problem> {
    Ok(Answer(verdict?))
}

/// Not by a lane: what waits for several products must not make each of their lanes wait.
pub(crate) async fn reserve_together(
    _: Client,
    State(state): State<AppState>,
    Keyed(key, Json(body)): Keyed<Json<CreateTogether>>,
) -> Result<Rendered<AllCreated<Reservation>>, Problem> {
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
    let (events, hold_seconds) = (state.events.clone(), state.hold_seconds);
    let once = state.once(
        "reserve_together",
        key,
        move |via| {
            let together = async move {
                reserve_together::reserve_together(via, &requests, hold_seconds, &events).await
            };
            together.boxed()
        },
        |books, together| books.reserved(together.answer.iter().flatten(), together.expired),
        |together| match &together.answer {
            Ok(holds) => Ok(AllCreated(holds.clone())),
            Err((product_id, refusal)) => Err(Problem::RefusedOf(*product_id, refusal.clone())),
        },
    );
    once.await
}

pub(crate) async fn get(
    _: Client,
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
pub(crate) struct Payment {
    /// Whether to sell the units of an expired hold all the same, if they are free.
    #[serde(default)]
    reacquire: bool,
}

/// A request to confirm, as its lanes take it.
#[derive(Clone)]
pub(crate) struct Confirm {
    pub(crate) id: ReservationId,
    /// In the same transaction.
    pub(crate) reacquire: bool,
}

pub(crate) async fn confirm(
    _: Client,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    Keyed(key, OptionalJson(body)): Keyed<OptionalJson<Payment>>,
) -> Result<Rendered<Answer<Reservation>>, Problem> {
    if key.is_some() || !body.reacquire {
        let reacquire = body.reacquire;
        let request = Confirm { id, reacquire };
        return state.confirm.answer(id.get(), key, request).await;
    }
    // Two transactions do as well, and the second makes nobody in the lane wait.
    let request = Confirm {
        id,
        reacquire: false,
    };
    match state.confirm.ask(id.get(), request).await? {
        Err(Refusal::ReservationExpired) => reacquire(&state, id).await,
        verdict => shown(verdict).map(Rendered::from),
    }
}

async fn reacquire(
    state: &AppState,
    id: ReservationId,
) -> Result<Rendered<Answer<Reservation>>, Problem> {
    let events = state.events.clone();
    let once = state.once(
        "reacquire",
        None,
        move |via| async move { reacquire::reacquire(via, id, &events).await }.boxed(),
        |books, late| books.reacquired(late.changed, late.expired),
        only,
    );
    once.await
}

/// The only answer of a call with one request.
fn only(batch: &Batch) -> Result<Answer<Reservation>, Problem> {
    shown(batch.answers.first().ok_or(Problem::Internal)?.clone())
}

pub(crate) async fn cancel(
    _: Client,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    Keyed(key, _): Keyed<NoBody>,
) -> Result<Rendered<Answer<Reservation>>, Problem> {
    state.cancel.answer(id.get(), key, id).await
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
    _: Client,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    Keyed(key, Json(body)): Keyed<Json<MoreTime>>,
) -> Result<Rendered<Answer<Reservation>>, Problem> {
    let request = Extend {
        id,
        seconds: body.seconds,
    };
    state.extend.answer(id.get(), key, request).await
}

pub(crate) async fn return_sold(
    _: Admin,
    Id(id): Id<ReservationId>,
    State(state): State<AppState>,
    Keyed(key, _): Keyed<NoBody>,
) -> Result<Rendered<Answer<Reservation>>, Problem> {
    let events = state.events.clone();
    let once = state.once(
        "return",
        key,
        move |via| async move { return_sold::return_sold(via, &[id], &events).await }.boxed(),
        |books, batch| books.returned(&batch.answers, batch.changed),
        only,
    );
    once.await
}

pub(crate) async fn list(
    _: Client,
    Listed { filter, mut page }: Listed,
    uri: Uri,
    State(state): State<AppState>,
) -> Result<Paged<Reservation>, Problem> {
    let pool = state.pool.clone();
    let limit = page.limit;
    let listed = state.call("list_reservations", async move {
        // One more tells whether there is a next page.
        page.limit += 1;
        list::list(&pool, &filter, page).await
    });
    Ok(Paged::new(&uri, listed.await?, limit, |last| last.id.get()))
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

impl Describe for Listed {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let mut only = |name: &str, whose: &str, schema: Value| {
            paging::parameter(operation, name, &format!("Only {whose}."), schema);
        };
        only("user_id", "this user's", schemas.taken::<UserId>());
        only("product_id", "this product's", schemas.taken::<ProductId>());
        only(
            "reference",
            "those with this reference",
            schemas.taken::<Reference>(),
        );
        only(
            "status",
            "those with this effective status",
            schemas.given::<Status>(),
        );
        paging::describe::<ReservationId>(operation, schemas);
        let offset = json!({
            "type": "integer", "format": "int64", "minimum": 0, "default": 0,
        });
        let words = "How many to leave out before them; not with `after_id`, which is faster.";
        paging::parameter(operation, "offset", words, offset);
    }
}

fn parsed<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value
        .parse()
        .map_err(|_| Problem::InvalidQuery(format!("{name} cannot be {value:?}")))
}
