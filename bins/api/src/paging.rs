//! Pages of a list: their parameters, and the link to the next one.

use std::{fmt::Display, str::FromStr};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Problem,
    answer::Answer,
    code::ProblemCode,
    etag::{self, IfNoneMatch, Tagged},
    extract::digits,
    json::{self, JSON},
    list_memory::RenderedList,
    openapi::{Describe, Operation, Schemas},
};

pub(crate) const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;

/// Rows of a list, and the link to the next page.
pub(crate) struct Paged<T> {
    next: Option<[(HeaderName, HeaderValue); 1]>,
    rows: Rows<T>,
}

enum Rows<T> {
    Listed(Vec<T>),
    Rendered(RenderedList),
}

impl<T> Paged<T> {
    /// `rows` has one row more than `limit` if there is a next page.
    pub(crate) fn new(uri: &Uri, mut rows: Vec<T>, limit: i64, id: fn(&T) -> i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        Self {
            next: more.then(|| next(uri, rows.last().map(id))),
            rows: Rows::Listed(rows),
        }
    }

    /// All rows on one page.
    pub(crate) fn of(rows: Vec<T>) -> Self {
        Self {
            next: None,
            rows: Rows::Listed(rows),
        }
    }

    /// The whole list on one page.
    pub(crate) fn whole(list: RenderedList) -> Self {
        Self {
            next: None,
            rows: Rows::Rendered(list),
        }
    }
}

impl<T: Serialize> Paged<T> {
    /// The page with its tag, for a client that may have it already. The tag also names the link: the same rows become
    /// another answer when the first row of a next page is created.
    pub(crate) fn tagged(self, known: &IfNoneMatch) -> Tagged<Self> {
        let (tag, rows) = match self.rows {
            Rows::Rendered(list) => (list.tag(), list.into_response()),
            Rows::Listed(rows) => match serde_json::to_vec(&rows) {
                Ok(json) => {
                    let link = self.next.as_ref().map(|[(_, link)]| link.as_bytes());
                    let tag = etag::of_parts([&json, link.unwrap_or_default()]);
                    (tag, json::response(JSON, json))
                }
                Err(_) => return Tagged::untagged(Answer(rows).into_response()),
            },
        };
        known.answer(tag, (self.next, rows).into_response())
    }
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        let rows = match self.rows {
            Rows::Listed(rows) => Answer(rows).into_response(),
            Rows::Rendered(list) => list.into_response(),
        };
        (self.next, rows).into_response()
    }
}

impl<T: JsonSchema> Describe for Paged<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let link = json!({ "Link": {
            "description": "The path of the next page, if there is one, as `<…>; rel=\"next\"`.",
            "schema": { "type": "string" },
        } });
        let schema = schemas.response_schema::<Vec<T>>();
        operation.answer(StatusCode::OK, "The request succeeded.", schema, link);
    }
}

/// The `Link` header (RFC 8288) with the address of the page after `last`. It keeps the query's other parameters, and
/// is relative to the address of this page.
fn next(uri: &Uri, last: Option<i64>) -> [(HeaderName, HeaderValue); 1] {
    let query = uri.query().unwrap_or_default();
    let kept = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| !matches!(name.as_ref(), "after_id" | "offset"));
    let mut next = form_urlencoded::Serializer::new(String::new());
    next.extend_pairs(kept)
        .extend_pairs(last.map(|id| ("after_id", id.to_string())));
    let link = format!("<{}?{}>; rel=\"next\"", uri.path(), next.finish());
    // This cannot fail: a serialized form is ASCII, and the path is one of our routes.
    let link = HeaderValue::try_from(link).unwrap_or_else(|_| HeaderValue::from_static(""));
    [(header::LINK, link)]
}

/// Describes the parameters of every list: `limit`, and `after_id`, the last id of the page before.
pub(crate) fn describe<T: JsonSchema>(operation: &mut Operation, schemas: &mut Schemas) {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT });
    let most = format!("Most rows on one page. The default is {DEFAULT_LIMIT}.");
    parameter(operation, "limit", &most, limit);
    let after = "Only rows after this id. The `Link` header has the value for the next page.";
    parameter(operation, "after_id", after, schemas.request_schema::<T>());
    operation.refuse(&[ProblemCode::InvalidQuery]);
}

/// Describes the filters of a list of `rows`. Each has a name, the rows that it selects ("of this user"), and a schema.
pub(crate) fn filters<const N: usize>(
    operation: &mut Operation,
    rows: &str,
    filters: [(&str, &str, Value); N],
) {
    for (name, which, schema) in filters {
        parameter(operation, name, &format!("Only {rows} {which}."), schema);
    }
}

/// Describes a query parameter.
pub(crate) fn parameter(operation: &mut Operation, name: &str, description: &str, schema: Value) {
    operation.parameter(json!({
        "name": name,
        "in": "query",
        "description": description,
        "schema": schema,
    }));
}

pub(crate) fn limit(name: &str, value: &str) -> Result<i64, Problem> {
    within(name, value, 1, MAX_LIMIT)
}

pub(crate) fn within(name: &str, value: &str, least: i64, most: i64) -> Result<i64, Problem> {
    digits(value)
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            Problem::InvalidQuery(format!(
                "{name} must be a whole number from {least} to {most}"
            ))
        })
}

pub(crate) fn id<T: TryFrom<i64>>(name: &str, value: &str) -> Result<T, Problem> {
    T::try_from(within(name, value, 1, i64::MAX)?)
        .map_err(|_| Problem::InvalidQuery(format!("{name} must be a positive number")))
}

/// A value of a type that has its own form.
pub(crate) fn parsed<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T, Problem> {
    let parsed = value.parse();
    parsed.map_err(|error| Problem::InvalidQuery(format!("{name} {error}")))
}

pub(crate) fn unknown(name: &str) -> Problem {
    Problem::InvalidQuery(format!("there is no parameter {name}"))
}
