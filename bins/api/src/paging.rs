//! Pages of a list: their parameters, and the link to the next one.

use axum::http::{HeaderName, HeaderValue, Uri, header};

use crate::Problem;

pub(crate) const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;

/// Takes off what was read beyond the page, and tells whether there was any.
pub(crate) fn cut<T>(rows: &mut Vec<T>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    more
}

/// The header with the address of the page behind `last`: the same query (RFC 8288, relative to its own address).
pub(crate) fn next(uri: &Uri, last: Option<i64>) -> [(HeaderName, HeaderValue); 1] {
    let query = uri.query().unwrap_or_default();
    let kept = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| !matches!(name.as_ref(), "after_id" | "offset"));
    let mut next = form_urlencoded::Serializer::new(String::new());
    next.extend_pairs(kept)
        .extend_pairs(last.map(|id| ("after_id", id.to_string())));
    let link = format!("<{}?{}>; rel=\"next\"", uri.path(), next.finish());
    // What is written as a form is ASCII, and a path that has come here is one of our own.
    let link = HeaderValue::try_from(link).unwrap_or_else(|_| HeaderValue::from_static(""));
    [(header::LINK, link)]
}

pub(crate) fn limit(name: &str, value: &str) -> Result<i64, Problem> {
    within(name, value, 1, MAX_LIMIT)
}

pub(crate) fn within(name: &str, value: &str, least: i64, most: i64) -> Result<i64, Problem> {
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

pub(crate) fn id<T: TryFrom<i64>>(name: &str, value: &str) -> Result<T, Problem> {
    T::try_from(within(name, value, 1, i64::MAX)?)
        .map_err(|_| Problem::InvalidQuery(format!("{name} must be a positive number")))
}

pub(crate) fn unknown(name: &str) -> Problem {
    Problem::InvalidQuery(format!("there is no parameter {name}"))
}
