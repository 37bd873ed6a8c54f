//! Every route of the API. Each verb has one line here. Everything else about the verb is in its own module.

use axum::{Router, extract::FromRef, http::StatusCode};
use serde_json::{Map, Value, json};
use timer::Timer;

use crate::{
    adjust_stock, admin,
    auth::Access,
    bulkhead::Bulkhead,
    cancel, cancel_batch,
    code::ProblemCode,
    confirm, confirm_batch, extend, extend_batch, join_waitlist, leave_waitlist, live,
    openapi::{Operation, Routes},
    products, reservations, reserve, reserve_batch, return_sold,
    sale::Sale,
    set_stock,
    skus::Skus,
    stock_ledger, waitlist,
};

/// The router of all documented handlers, and the OpenAPI document of all routes.
#[expect(clippy::too_many_lines, reason = "one table of routes")]
pub(crate) fn routes<S>() -> (Router<S>, Value)
where
    S: Clone + Send + Sync + 'static,
    &'static Access: FromRef<S>,
    &'static Sale: FromRef<S>,
    &'static Bulkhead: FromRef<S>,
    &'static Timer: FromRef<S>,
    &'static ::live::Live: FromRef<S>,
    &'static products::Lists: FromRef<S>,
    &'static Skus: FromRef<S>,
    &'static products::Lanes: FromRef<S>,
    &'static reservations::Lanes: FromRef<S>,
    &'static reserve::Lanes: FromRef<S>,
    &'static confirm::Lanes: FromRef<S>,
    &'static cancel::Lanes: FromRef<S>,
    &'static extend::Lanes: FromRef<S>,
{
    let products =
        "Products, the rules of their sale, and the number of free, held and sold units.";
    let reservations = "Units that are held for a user or sold to a user.";
    let waitlists =
        "Users who wait for units of a product. Units that come free go to the first in line.";
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
        .get(
            "/products/{id}/stock",
            stock_ledger::list,
            stock_ledger::operation(),
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
        .about("Waitlists", waitlists)
        .post(
            "/products/{id}/waitlist",
            join_waitlist::join_waitlist,
            join_waitlist::operation(),
        )
        .get("/waitlist", waitlist::list, waitlist::list_operation())
        .post(
            "/waitlist",
            join_waitlist::join_named,
            join_waitlist::named_operation(),
        )
        .get("/waitlist/{id}", waitlist::get, waitlist::get_operation())
        .post(
            "/waitlist/{id}/leave",
            leave_waitlist::leave_waitlist,
            leave_waitlist::operation(),
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

/// The answer of a probe that finds the process in this state.
fn probe(state: &str, description: &str) -> Value {
    let mut schema = json!({
        "type": "object",
        "properties": {
            "status": { "enum": [state] },
            "dependencies": { "type": "object", "additionalProperties": { "enum": ["up", "down"] } },
            "warnings": {
                "type": "array",
                "items": { "type": "string" },
                "description": "Settings of PostgreSQL that weaken a guarantee, as texts for people.",
            },
        },
        "required": ["status"],
    });
    let mut example = json!({ "status": state });
    if state != "alive" {
        example["dependencies"] = json!({ "postgres": "up", "redis": "up" });
    }
    if state == "unavailable" {
        let reason = "schema is at 0, this program needs 1: run flashsale-api migrate";
        example["reason"] = reason.into();
        schema["properties"]["reason"] = json!({
            "type": "string",
            "description": "Why the process is not ready, as text for people.",
            "examples": [reason],
        });
    }
    let content = json!({ "schema": schema, "example": example });
    json!({ "description": description, "content": { "application/json": content } })
}

/// Documents the routes of `runtime::health`, which every process has.
fn health<S: Clone + Send + Sync + 'static>(routes: Routes<S>) -> Routes<S> {
    let ready = |id: &str, summary: &str| {
        Operation::new(id, summary)
            .open()
            .explained("Only PostgreSQL counts. The answer also lists other servers.")
            .answers(
                StatusCode::OK,
                probe("ready", "The process can serve requests."),
            )
            .answers(
                StatusCode::SERVICE_UNAVAILABLE,
                probe(
                    "unavailable",
                    "PostgreSQL does not answer, or its schema does not fit this program.",
                ),
            )
    };
    let metrics = json!({
        "description": "Metrics in the Prometheus text format.",
        "content": { "text/plain": {
            "schema": { "type": "string" },
            "example": "# TYPE flashsale_reservations_confirmed_total counter\n\
                flashsale_reservations_confirmed_total 10\n",
        } },
    });
    routes
        .about("Health", "For orchestrators and monitoring.")
        .documented_get(
            "/livez",
            Operation::new("getLiveness", "Whether the process runs")
                .open()
                .answers(StatusCode::OK, probe("alive", "The process runs.")),
        )
        .documented_get(
            "/readyz",
            ready("getReadiness", "Whether the process can serve requests"),
        )
        .documented_get("/health", ready("getHealth", "The same as `/readyz`"))
        .documented_get(
            "/metrics",
            Operation::new("getMetrics", "Metrics of the process")
                .open()
                .answers(StatusCode::OK, metrics),
        )
}

/// The kinds of files of pages: their name here, media type, and an example.
const FILE_EXAMPLES: [(&str, &str, &str); 3] = [
    ("css", "text/css", "body { margin: 0; }\n"),
    (
        "javascript",
        "text/javascript",
        "export const INTERVAL_SECONDS = 1;\n",
    ),
    (
        "svg",
        "image/svg+xml",
        "<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
    ),
];

fn page(id: &str, summary: &str) -> Operation {
    Operation::new(id, summary).open()
}

/// The operation that reads a file of a page. `kinds` are the names of its files' kinds.
fn file(id: &str, summary: &str, kinds: &[&str]) -> Operation {
    let mut operation = page(id, summary).refuses(&[ProblemCode::NotFound]);
    operation.parameter(json!({
        "name": "file",
        "in": "path",
        "required": true,
        "schema": { "type": "string", "examples": ["style.css"] },
    }));
    let contents = FILE_EXAMPLES
        .iter()
        .filter(|(kind, _, _)| kinds.contains(kind));
    let contents = contents.map(|(_, media_type, example)| {
        let content = json!({ "schema": { "type": "string" }, "example": example });
        ((*media_type).to_owned(), content)
    });
    let contents: Map<_, _> = contents.collect();
    let answer = json!({ "description": "The file.", "content": contents });
    operation.answers(StatusCode::OK, answer)
}

/// Documents the pages for people, and the documents that the pages are made of.
fn pages<S: Clone + Send + Sync + 'static>(routes: Routes<S>) -> Routes<S> {
    let document = |media_type: &str, kind: &str, example: Value| {
        let content = json!({ "schema": { "type": kind }, "example": example });
        json!({ "description": "The document.", "content": { media_type: content } })
    };
    let json = |name: &str, version: &str| {
        document("application/json", "object", json!({ name: version }))
    };
    let html = || {
        let text = "<!DOCTYPE html>\n<html lang=\"en\">…</html>\n";
        document("text/html", "string", text.into())
    };
    routes
        .about(
            "Pages",
            "Pages for people, and the documents that the pages are made of.",
        )
        .documented_get(
            "/",
            page(
                "getLivePage",
                "The live page: the state of the service, once per second",
            )
            .explained("The page reads its data from `/admin/live`.")
            .answers(StatusCode::OK, html()),
        )
        .documented_get(
            "/live/{file}",
            file(
                "getLivePageFile",
                "A file of the live page",
                &["css", "javascript", "svg"],
            ),
        )
        .documented_get(
            "/openapi.json",
            page("getOpenapi", "The HTTP API, as OpenAPI 3.1")
                .answers(StatusCode::OK, json("openapi", "3.1.0")),
        )
        .documented_get(
            "/asyncapi.json",
            page("getAsyncapi", "The events, as AsyncAPI 3.0")
                .answers(StatusCode::OK, json("asyncapi", "3.0.0")),
        )
        .documented_get(
            "/docs",
            page("getDocs", "The API and the events, as one page").answers(StatusCode::OK, html()),
        )
        .documented_get(
            "/docs/{file}",
            file(
                "getDocsFile",
                "A file of the page `/docs`",
                &["css", "javascript"],
            ),
        )
}
