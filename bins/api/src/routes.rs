//! Every route of the API.

use axum::{Router, http::StatusCode};
use serde_json::{Value, json};

use crate::{
    AppState, admin,
    code::Code,
    contract::{Operation, Routes},
    live, products, reservations,
};

/// The router's own part, and the document of the whole.
pub(crate) fn routes() -> (Router<AppState>, Value) {
    let routes = Routes::new();
    let routes = contract(health(admin(reservations(products(routes)))));
    routes.finish(json!({
        "title": "flashsale",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "Holds units of a product for a user, until they are sold, canceled or expire.",
        "description": "Bodies are JSON, times RFC 3339. Answers may get new fields: do not refuse those that you do not \
            know. A request with a field that the API does not know is refused.\n\n\
            An error is a `Problem`: branch on its `code`. `overloaded` means that nothing was done, \
            `outcome_unknown` that it may have been done. It has an `X-Request-Id`, which finds it in the service's log: \
            the client's own, if the request had one, as other answers do then, too.",
        "license": { "name": "MIT", "identifier": "MIT" },
    }))
}

/// The document alone, as `GET /openapi.json` serves it.
pub fn openapi() -> Value {
    routes().1
}

/// Refusals of a reserve, in the order in which they are looked at.
const NO_HOLD: [Code; 6] = [
    Code::ProductNotFound,
    Code::SaleNotOpen,
    Code::SaleClosed,
    Code::AlreadyReserved,
    Code::SoldOut,
    Code::MaxPerUserReached,
];

fn products(routes: Routes) -> Routes {
    routes
        .about("Products", "What is on sale, by which rules, and how many units are free, held and sold.")
        .get(
            "/products",
            products::list,
            Operation::new("listProducts", "Products, by id")
                .explained("All of them; with `limit` or `after_id` a page."),
        )
        .post(
            "/products",
            products::create,
            Operation::new("createProduct", "Create a product")
                .explained("Its units are all free. Without `Idempotency-Key` not to be repeated blindly: look first.")
                .refuses(&[Code::InvalidProduct]),
        )
        .get("/products/{id}", products::get, Operation::new("getProduct", "A product"))
        .patch(
            "/products/{id}",
            products::change,
            Operation::new("changeProduct", "Change a product's name or the rules of its sale")
                .explained("What is not given stays; `null` takes a rule away. What is held already is not touched.")
                .refuses(&[Code::InvalidProduct]),
        )
        .post(
            "/products/{id}/stock",
            products::adjust_stock,
            Operation::new("adjustStock", "Add units, or take free ones away")
                .explained("Each change is kept with its reason. Without `Idempotency-Key` not to be repeated blindly: look first.")
                .refuses(&[Code::InsufficientStock]),
        )
}

fn reservations(routes: Routes) -> Routes {
    routes
        .about("Reservations", "Units held for a user, and what became of them.")
        .get(
            "/reservations",
            reservations::list,
            Operation::new("listReservations", "Reservations, newest first"),
        )
        .post(
            "/reservations",
            reservations::reserve,
            Operation::new("reserve", "Hold units of a product for a user")
                .explained(
                    "Refusals come in the order of this page. A retry after a lost answer is safe: `already_reserved` \
                    names the hold that was made.",
                )
                .refuses(&NO_HOLD),
        )
        .post(
            "/reservations/batch",
            reservations::reserve_together,
            Operation::new("reserveTogether", "Hold units of several products for a user: all or none")
                .explained(
                    "The answer is in the order of the items. A refusal is that of the first item that cannot be had, \
                    and has its `product_id`.",
                )
                .refuses(&NO_HOLD),
        )
        .get(
            "/reservations/{id}",
            reservations::get,
            Operation::new("getReservation", "A reservation")
                .explained("Its status is the effective one: from the second of its deadline on a hold is EXPIRED."),
        )
        .post(
            "/reservations/{id}/confirm",
            reservations::confirm,
            Operation::new("confirm", "The user has paid: sell what is held")
                .explained(
                    "Can be repeated. With `reacquire` an expired hold is sold all the same, if its units are free: \
                    the answer is a new, confirmed reservation that has `reacquired_from`.",
                )
                .refuses(&[
                    Code::ReservationExpired,
                    Code::ReservationCanceled,
                    Code::ReservationReturned,
                    Code::ExpiredSoldOut,
                    Code::MaxPerUserReached,
                ]),
        )
        .post(
            "/reservations/{id}/cancel",
            reservations::cancel,
            Operation::new("cancel", "Give a hold up").explained("Can be repeated.").refuses(&[
                Code::ReservationExpired,
                Code::ReservationConfirmed,
                Code::ReservationReturned,
            ]),
        )
        .post(
            "/reservations/{id}/extend",
            reservations::extend,
            Operation::new("extend", "Move a hold's deadline to so many seconds from now")
                .explained(
                    "Never nearer, and never beyond the longest life of a hold: the answer shows what it came to.",
                )
                .refuses(&[
                    Code::ReservationExpired,
                    Code::ReservationCanceled,
                    Code::ReservationConfirmed,
                    Code::ReservationReturned,
                ]),
        )
        .post(
            "/reservations/{id}/return",
            reservations::return_sold,
            Operation::new("return", "Take a sale back, and free its units")
                .explained("Can be repeated.")
                .refuses(&[
                    Code::ReservationExpired,
                    Code::ReservationCanceled,
                    Code::ReservationNotConfirmed,
                ]),
        )
}

fn admin(routes: Routes) -> Routes {
    routes
        .about("Administration", "For those who run the service.")
        .post(
            "/admin/reservations/sync-expired",
            admin::sync_expired,
            Operation::new("syncExpired", "Expire all holds that are due, now"),
        )
        .get(
            "/admin/live",
            live::stream,
            Operation::new("watch", "What the live page shows, as a stream")
                .refuses(&[Code::TooManyViewers]),
        )
        .get(
            "/admin/audit",
            admin::audit,
            Operation::new(
                "audit",
                "Compare every product's counters with its reservations",
            ),
        )
        .post(
            "/admin/counters/rebuild",
            admin::rebuild_counters,
            Operation::new(
                "rebuildCounters",
                "Set the counters in Redis to what the database says",
            ),
        )
        .get(
            "/admin/outbox/dead",
            admin::dead_events,
            Operation::new(
                "listDeadEvents",
                "Events that the broker refuses, oldest first, at most 100",
            ),
        )
        .post(
            "/admin/outbox/requeue",
            admin::requeue,
            Operation::new(
                "requeueDeadEvents",
                "Give every dead event all its attempts again",
            ),
        )
        .post(
            "/admin/outbox/replay",
            admin::replay,
            Operation::new(
                "replayEvents",
                "Publish again what was published in a range of time",
            )
            .explained(
                "With the same message ids, as far as the events are kept still, and slowly enough for new ones to pass \
                between them.",
            ),
        )
}

/// The routes of `runtime::health`, which every process has.
fn health(routes: Routes) -> Routes {
    let probe = |states: &[&str], description: &str| {
        let mut schema = json!({
            "type": "object",
            "properties": {
                "status": { "enum": states },
                "dependencies": { "type": "object", "additionalProperties": { "enum": ["up", "down"] } },
            },
            "required": ["status"],
        });
        if states == ["unavailable"] {
            schema["properties"]["reason"] = json!({
                "type": "string",
                "description": "Why not, in words for people.",
                "examples": ["schema is at 0, this program needs 1: run flashsale-api migrate"],
            });
        }
        json!({ "description": description, "content": { "application/json": { "schema": schema } } })
    };
    let ready = |id: &str, summary: &str| {
        Operation::new(id, summary)
            .explained("PostgreSQL alone decides. Other servers are named, and do not count.")
            .answers(StatusCode::OK, probe(&["ready"], "Requests can be served."))
            .answers(
                StatusCode::SERVICE_UNAVAILABLE,
                probe(
                    &["unavailable"],
                    "PostgreSQL does not answer, or this program cannot work with what is there.",
                ),
            )
    };
    let metrics = json!({
        "description": "Prometheus's text format.",
        "content": { "text/plain": { "schema": { "type": "string" } } },
    });
    routes
        .about("Health", "For orchestrators and monitoring.")
        .documented_get(
            "/livez",
            Operation::new("isAlive", "Whether the process runs")
                .answers(StatusCode::OK, probe(&["alive"], "It does.")),
        )
        .documented_get(
            "/readyz",
            ready("isReady", "Whether requests can be served"),
        )
        .documented_get("/health", ready("health", "The same as `/readyz`"))
        .documented_get(
            "/metrics",
            Operation::new("metrics", "What the process counts").answers(StatusCode::OK, metrics),
        )
}

fn contract(routes: Routes) -> Routes {
    let document = |media_type: &str, schema: Value| json!({ "description": "The document.", "content": { media_type: { "schema": schema } } });
    let json = document("application/json", json!({ "type": "object" }));
    let text = |media_type| document(media_type, json!({ "type": "string" }));
    let mut file = Operation::new("livePageFile", "A file of that page").refuses(&[Code::NotFound]);
    file.parameter(json!({
        "name": "file",
        "in": "path",
        "required": true,
        "schema": { "type": "string" },
    }));
    routes
        .about(
            "Pages",
            "For people, and the documents that they are made of.",
        )
        .documented_get(
            "/",
            Operation::new("livePage", "How the service stands, as it happens")
                .explained("What it shows comes from `/admin/live`.")
                .answers(StatusCode::OK, text("text/html")),
        )
        .documented_get(
            "/live/{file}",
            file.explained("Style, scripts and pictures.").answers(
                StatusCode::OK,
                json!({ "description": "The file.", "content": {
                    "text/css": { "schema": { "type": "string" } },
                    "text/javascript": { "schema": { "type": "string" } },
                    "image/svg+xml": { "schema": { "type": "string" } },
                } }),
            ),
        )
        .documented_get(
            "/openapi.json",
            Operation::new("openapi", "The HTTP API, as OpenAPI 3.1")
                .answers(StatusCode::OK, json.clone()),
        )
        .documented_get(
            "/asyncapi.json",
            Operation::new("asyncapi", "The events, as AsyncAPI 3.0").answers(StatusCode::OK, json),
        )
        .documented_get(
            "/docs",
            Operation::new("docs", "Both, for reading").answers(StatusCode::OK, text("text/html")),
        )
        .documented_get(
            "/docs/style.css",
            Operation::new("docsStyle", "How that page looks")
                .answers(StatusCode::OK, text("text/css")),
        )
}
