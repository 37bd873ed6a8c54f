//! Every route of the API. Each verb has one line here. Everything else about the verb is in its own module.

use std::sync::Arc;

use axum::{Router, extract::FromRef, http::StatusCode};
use serde_json::{Value, json};
use timer::Timer;

use crate::{
    adjust_stock, admin,
    auth::Access,
    bulkhead::Bulkhead,
    cancel, cancel_batch,
    code::ProblemCode,
    confirm, confirm_batch, extend, extend_batch, live,
    openapi::{Operation, Routes},
    products, reservations, reserve, reserve_batch, return_sold,
    sale::Sale,
    set_stock,
    skus::Skus,
};

/// The router of all documented handlers, and the OpenAPI document of all routes.
#[expect(clippy::too_many_lines, reason = "one table of routes")]
pub(crate) fn routes<S>() -> (Router<S>, Value)
where
    S: Clone + Send + Sync + 'static,
    Arc<Access>: FromRef<S>,
    Arc<Sale>: FromRef<S>,
    Arc<Bulkhead>: FromRef<S>,
    Timer: FromRef<S>,
    ::live::Live: FromRef<S>,
    Arc<products::Lists>: FromRef<S>,
    Arc<Skus>: FromRef<S>,
    products::Lanes: FromRef<S>,
    reservations::Lanes: FromRef<S>,
    reserve::Lanes: FromRef<S>,
    confirm::Lanes: FromRef<S>,
    cancel::Lanes: FromRef<S>,
    extend::Lanes: FromRef<S>,
{
    let products =
        "Products, the rules of their sale, and the number of free, held and sold units.";
    let reservations = "Units that are held for a user or sold to a user.";
    let routes = Routes::new()
        .about("Products", products)
        .get("/products", products::list, products::list_operation())
        .post("/products", products::create, products::create_operation())
        .get("/products/{id}", products::get, products::get_operation())
        .patch(
            "/products/{id}",
            products::change,
            products::change_operation(),
        )
        .post(
            "/products/{id}/stock",
            adjust_stock::adjust_stock,
            adjust_stock::operation(),
        )
        .put(
            "/products/{id}/stock",
            set_stock::set_stock,
            set_stock::operation(),
        )
        .about("Reservations", reservations)
        .get(
            "/reservations",
            reservations::list,
            reservations::list_operation(),
        )
        .post("/reservations", reserve::reserve, reserve::operation())
        .post(
            "/reservations/batch",
            reserve_batch::reserve_batch,
            reserve_batch::operation(),
        )
        .post(
            "/reservations/batch/confirm",
            confirm_batch::confirm_all,
            confirm_batch::operation(),
        )
        .post(
            "/reservations/batch/cancel",
            cancel_batch::cancel_all,
            cancel_batch::operation(),
        )
        .post(
            "/reservations/batch/extend",
            extend_batch::extend_all,
            extend_batch::operation(),
        )
        .get(
            "/reservations/{id}",
            reservations::get,
            reservations::get_operation(),
        )
        .post(
            "/reservations/{id}/confirm",
            confirm::confirm,
            confirm::operation(),
        )
        .post(
            "/reservations/{id}/cancel",
            cancel::cancel,
            cancel::operation(),
        )
        .post(
            "/reservations/{id}/extend",
            extend::extend,
            extend::operation(),
        )
        .post(
            "/reservations/{id}/return",
            return_sold::return_sold,
            return_sold::operation(),
        )
        .about("Administration", "For operators of the service.")
        .post(
            "/admin/reservations/sync-expired",
            admin::sync_expired,
            admin::sync_expired_operation(),
        )
        .get("/admin/live", live::stream, live::operation())
        .get("/admin/audit", admin::audit, admin::audit_operation())
        .post(
            "/admin/counters/rebuild",
            admin::rebuild_counters,
            admin::rebuild_counters_operation(),
        )
        .get(
            "/admin/outbox/dead",
            admin::dead_events,
            admin::dead_events_operation(),
        )
        .post(
            "/admin/outbox/requeue",
            admin::requeue,
            admin::requeue_operation(),
        )
        .post(
            "/admin/outbox/replay",
            admin::replay,
            admin::replay_operation(),
        );
    let routes = pages(health(routes));
    routes.finish(json!({
        "title": "flashsale",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "Holds units of a product for a user, until they are sold, canceled or expire.",
        "description": "Bodies are JSON. Times are in RFC 3339 format. Future versions may add fields to responses: \
            ignore fields that you do not know. A request with an unknown field is refused.\n\n\
            An error is a `Problem`: branch on its `code`. `overloaded` means that nothing was done. \
            `outcome_unknown` means that the request may have been done. An HTTP/1.1 request without exactly one valid \
            `Host` header is answered `invalid_host`.\n\n\
            Every error has an `X-Request-Id` header: search the service's log for it. If the request has an \
            `X-Request-Id`, every response repeats it.\n\n\
            Every response has `Cache-Control: no-store`, except for pages, documents and reads with an `ETag`: they have \
            `no-cache`, so that a cache asks with `If-None-Match` before each use.",
        "license": { "name": "MIT", "identifier": "MIT" },
    }))
}

/// Documents the routes of `runtime::health`, which every process has.
fn health<S: Clone + Send + Sync + 'static>(routes: Routes<S>) -> Routes<S> {
    let probe = |states: &[&str], description: &str| {
        let mut schema = json!({
            "type": "object",
            "properties": {
                "status": { "enum": states },
                "dependencies": { "type": "object", "additionalProperties": { "enum": ["up", "down"] } },
                "warnings": {
                    "type": "array",
                    "items": { "type": "string" },
                    "description": "Settings of PostgreSQL that weaken a promise, as texts for people.",
                },
            },
            "required": ["status"],
        });
        if states == ["unavailable"] {
            schema["properties"]["reason"] = json!({
                "type": "string",
                "description": "Why the process is not ready, as text for people.",
                "examples": ["schema is at 0, this program needs 1: run flashsale-api migrate"],
            });
        }
        json!({ "description": description, "content": { "application/json": { "schema": schema } } })
    };
    let ready = |id: &str, summary: &str| {
        Operation::new(id, summary)
            .explained("Only PostgreSQL counts. The answer also lists other servers.")
            .answers(
                StatusCode::OK,
                probe(&["ready"], "The process can serve requests."),
            )
            .answers(
                StatusCode::SERVICE_UNAVAILABLE,
                probe(
                    &["unavailable"],
                    "PostgreSQL does not answer, or its schema does not fit this program.",
                ),
            )
    };
    let metrics = json!({
        "description": "Metrics in the Prometheus text format.",
        "content": { "text/plain": { "schema": { "type": "string" } } },
    });
    routes
        .about("Health", "For orchestrators and monitoring.")
        .documented_get(
            "/livez",
            Operation::new("isAlive", "Whether the process runs")
                .answers(StatusCode::OK, probe(&["alive"], "The process runs.")),
        )
        .documented_get(
            "/readyz",
            ready("isReady", "Whether the process can serve requests"),
        )
        .documented_get("/health", ready("health", "The same as `/readyz`"))
        .documented_get(
            "/metrics",
            Operation::new("metrics", "Metrics of the process").answers(StatusCode::OK, metrics),
        )
}

/// Documents the pages for people, and the documents that the pages are made of.
fn pages<S: Clone + Send + Sync + 'static>(routes: Routes<S>) -> Routes<S> {
    let document = |media_type: &str, schema: Value| json!({ "description": "The document.", "content": { media_type: { "schema": schema } } });
    let json = document("application/json", json!({ "type": "object" }));
    let text = |media_type| document(media_type, json!({ "type": "string" }));
    let mut file =
        Operation::new("livePageFile", "A file of the live page").refuses(&[ProblemCode::NotFound]);
    file.parameter(json!({
        "name": "file",
        "in": "path",
        "required": true,
        "schema": { "type": "string" },
    }));
    routes
        .about(
            "Pages",
            "Pages for people, and the documents that the pages are made of.",
        )
        .documented_get(
            "/",
            Operation::new(
                "livePage",
                "The live page: the state of the service, once per second",
            )
            .explained("The page reads its data from `/admin/live`.")
            .answers(StatusCode::OK, text("text/html")),
        )
        .documented_get(
            "/live/{file}",
            file.explained("Style sheets, scripts and images.").answers(
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
            Operation::new("docs", "The API and the events, as one page")
                .answers(StatusCode::OK, text("text/html")),
        )
        .documented_get(
            "/docs/style.css",
            Operation::new("docsStyle", "The style sheet of the page `/docs`")
                .answers(StatusCode::OK, text("text/css")),
        )
}
