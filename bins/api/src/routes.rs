//! Every route of the API. A verb's line stands here, and all else about it in its own module.

use std::sync::Arc;

use axum::{Router, extract::FromRef, http::StatusCode};
use serde_json::{Value, json};
use timer::Timer;

use crate::{
    adjust_stock, admin,
    auth::Access,
    bulkhead::Bulkhead,
    cancel,
    code::ProblemCode,
    confirm, extend, live,
    openapi::{Operation, Routes},
    products, reservations, reserve, reserve_batch, return_sold,
    sale::Sale,
};

/// The router's own part, and the document of the whole.
pub(crate) fn routes<S>() -> (Router<S>, Value)
where
    S: Clone + Send + Sync + 'static,
    Arc<Access>: FromRef<S>,
    Arc<Sale>: FromRef<S>,
    Arc<Bulkhead>: FromRef<S>,
    Timer: FromRef<S>,
    ::live::Live: FromRef<S>,
    products::ListLanes: FromRef<S>,
    products::Lanes: FromRef<S>,
    reservations::Lanes: FromRef<S>,
    reserve::Lanes: FromRef<S>,
    confirm::Lanes: FromRef<S>,
    cancel::Lanes: FromRef<S>,
    extend::Lanes: FromRef<S>,
{
    let products = "What is on sale, by which rules, and how many units are free, held and sold.";
    let reservations = "Units held for a user, and what became of them.";
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
        .about("Administration", "For those who run the service.")
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
        "description": "Bodies are JSON, times RFC 3339. Answers may get new fields: do not refuse those that you do not \
            know. A request with a field that the API does not know is refused.\n\n\
            An error is a `Problem`: branch on its `code`. `overloaded` means that nothing was done, \
            `outcome_unknown` that it may have been done. It has an `X-Request-Id`, which finds it in the service's log: \
            the client's own, if the request had one, as other answers do then, too.",
        "license": { "name": "MIT", "identifier": "MIT" },
    }))
}

/// The routes of `runtime::health`, which every process has.
fn health<S: Clone + Send + Sync + 'static>(routes: Routes<S>) -> Routes<S> {
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

/// The pages for people, and the documents that they are made of.
fn pages<S: Clone + Send + Sync + 'static>(routes: Routes<S>) -> Routes<S> {
    let document = |media_type: &str, schema: Value| json!({ "description": "The document.", "content": { media_type: { "schema": schema } } });
    let json = document("application/json", json!({ "type": "object" }));
    let text = |media_type| document(media_type, json!({ "type": "string" }));
    let mut file =
        Operation::new("livePageFile", "A file of that page").refuses(&[ProblemCode::NotFound]);
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
