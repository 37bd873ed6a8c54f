//! `GET /reservations` and `GET /reservations/{id}`

use axum::{
    extract::{FromRequestParts, State},
    http::{Uri, request::Parts},
};
use inventory::{
    ProductId, ReservationId, UserId,
    list::{self, Filter, Page},
    reservation::{self, Reference, Refusal, Reservation, Status},
};
use serde_json::{Value, json};

use crate::{
    Problem,
    answer::Answer,
    bulkhead::Bulkhead,
    etag::{IfNoneMatch, Tagged},
    extract::{Id, query_pairs},
    keys::Client,
    lane_builder::LaneBuilder,
    openapi::{Describe, Operation, Schemas},
    paging::{self, Paged},
};

/// Reads of reservations by id.
pub(crate) type Lanes = lanes::Lanes<ReservationId, Option<Reservation>>;

pub(crate) fn start(builder: &LaneBuilder) -> Lanes {
    let get = async |pool, ids: Vec<ReservationId>| reservation::get(&pool, &ids).await;
    builder.lanes("get_reservation", 1, get)
}

/// An example of a reservation with this status, and with these times.
pub(crate) fn example(status: &str, times: &[&str]) -> Value {
    let mut example = Reservation::example();
    example["status"] = status.into();
    for name in times {
        example[name] = "2026-02-14T12:01:00Z".into();
    }
    example
}

pub(crate) fn get_operation() -> Operation {
    Operation::new("getReservation", "A reservation")
        .explained("The status is the effective status: from its deadline on, a hold is EXPIRED.")
}

pub(crate) async fn get(
    _: Client,
    Id(id): Id<ReservationId>,
    known: IfNoneMatch,
    State(lanes): State<&'static Lanes>,
) -> Result<Tagged<Answer<Reservation>>, Problem> {
    match lanes.ask(id.get(), id).await? {
        Some(reservation) => Ok(Answer(reservation).tagged(&known)),
        None => Err(Refusal::ReservationNotFound.into()),
    }
}

pub(crate) fn list_operation() -> Operation {
    Operation::new("listReservations", "Reservations, newest first")
}

pub(crate) async fn list(
    _: Client,
    Listed { filter, mut page }: Listed,
    uri: Uri,
    State(bulkhead): State<&'static Bulkhead>,
) -> Result<Paged<Reservation>, Problem> {
    let pool = bulkhead.pool();
    let limit = page.limit;
    let listed = bulkhead.execute("list_reservations", async move {
        // One row more shows whether there is a next page.
        page.limit += 1;
        list::list(&pool, &filter, page).await
    });
    Ok(Paged::new(&uri, listed.await?, limit, |last| last.id.get()))
}

/// The query of the list: filters and page.
pub(crate) struct Listed {
    filter: Filter,
    page: Page,
}

impl<S: Send + Sync> FromRequestParts<S> for Listed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
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
                "reference" => filter.reference = Some(paging::parsed(&name, value)?),
                "status" => filter.status = Some(paging::parsed(&name, value)?),
                "limit" => page.limit = paging::limit(&name, value)?,
                "offset" => offset = Some(paging::within(&name, value, 0, i64::MAX)?),
                "after_id" => page.after = Some(paging::id(&name, value)?),
                _ => return Err(paging::unknown(&name)),
            }
        }
        if offset.is_some() && page.after.is_some() {
            return Err(Problem::InvalidQuery(
                "after_id and offset cannot be combined".to_owned(),
            ));
        }
        page.offset = offset.unwrap_or(0);
        Ok(Self { filter, page })
    }
}

impl Describe for Listed {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let (user, product) = (
            schemas.request_schema::<UserId>(),
            schemas.request_schema::<ProductId>(),
        );
        let (reference, status) = (
            schemas.request_schema::<Reference>(),
            schemas.response_schema::<Status>(),
        );
        let filters = [
            ("user_id", "of this user", user),
            ("product_id", "of this product", product),
            ("reference", "with this reference", reference),
            ("status", "with this effective status", status),
        ];
        paging::filters(operation, "reservations", filters);
        paging::describe::<ReservationId>(operation, schemas);
        let offset = json!({
            "type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX,
        });
        let words = "Number of rows to skip, 0 if absent. Cannot be combined with `after_id`, which is faster.";
        paging::parameter(operation, "offset", words, offset);
    }
}
