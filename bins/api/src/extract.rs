//! What comes in: bodies, ids in paths, queries, and who may do admin acts.

use std::{collections::HashSet, net::IpAddr};

use axum::{
    body::{self, Body, Bytes, HttpBody as _},
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
};
use inventory::{ProductId, ReservationId, reservation::Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::json;
use subtle::ConstantTimeEq as _;

use crate::{
    AppState, Problem,
    code::Code,
    contract::{ADMIN, CLIENT, Describe, Operation, Schemas},
    keys::Client,
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Every body that the API understands is far smaller.
pub(crate) const BODY_MAX_BYTES: usize = 16 * 1024;

/// A JSON object, without fields that nobody asked for.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::UnsupportedMediaType);
        }
        parse(&read(request.into_body()).await?).map(Self)
    }
}

/// What a body can be refused for.
const BAD_BODY: [Code; 4] = [
    Code::InvalidJson,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidRequest,
];

impl<T: JsonSchema> Describe for Json<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.body(schemas.taken::<T>(), true);
        operation.refuse(&BAD_BODY);
    }
}

/// A body that may be left out: nothing, or a JSON object.
pub(crate) struct OptionalJson<T>(pub(crate) T);

/// The body of a route that needs none.
pub(crate) type NoBody = OptionalJson<Nothing>;

/// No fields.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct Nothing {}

impl<T: Default + DeserializeOwned> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let bytes = read(request.into_body()).await?;
        match (bytes.is_empty(), json) {
            (true, _) => Ok(Self(T::default())),
            (false, false) => Err(Problem::UnsupportedMediaType),
            (false, true) => parse(&bytes).map(Self),
        }
    }
}

impl<T: JsonSchema> Describe for OptionalJson<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.body(schemas.taken::<T>(), false);
        operation.refuse(&BAD_BODY);
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    else {
        return false;
    };
    // What nearly everybody sends needs no look inside.
    if value == "application/json" {
        return true;
    }
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

pub(crate) async fn read(body: Body) -> Result<Bytes, Problem> {
    // Whoever declares a length beyond the limit need not send it to be told so.
    if body.size_hint().lower() > BODY_MAX_BYTES as u64 {
        return Err(Problem::BodyTooLarge);
    }
    body::to_bytes(body, BODY_MAX_BYTES).await.map_err(|error| {
        match std::error::Error::source(&error) {
            Some(source) if source.is::<http_body_util::LengthLimitError>() => {
                Problem::BodyTooLarge
            }
            _ => Problem::InvalidJson("the body broke off".to_owned()),
        }
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Checked as a whole: serde_json does not look at strings that it skips.
    let Ok(text) = str::from_utf8(bytes) else {
        return Err(Problem::InvalidJson("the body is not UTF-8".to_owned()));
    };
    let refusal = match serde_json::from_str(text) {
        // serde also reads structs from arrays; the contract says objects.
        Ok(value) if first_byte(bytes) == Some(b'{') => return Ok(value),
        Ok(_) => "the body must be a JSON object".to_owned(),
        Err(error) => error.to_string(),
    };
    // A wrong value may come before a syntax error, which weighs more.
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Err(Problem::InvalidRequest(refusal)),
        Err(error) => Err(Problem::InvalidJson(error.to_string())),
    }
}

fn first_byte(bytes: &[u8]) -> Option<u8> {
    bytes
        .iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

/// An id in the path. What is no positive bigint names nothing, so it is not found.
pub(crate) struct Id<T>(pub(crate) T);

/// What a path that names nothing answers.
pub(crate) trait Named: TryFrom<i64> {
    const NOT_FOUND: Refusal;
}

impl Named for ProductId {
    const NOT_FOUND: Refusal = Refusal::ProductNotFound;
}

impl Named for ReservationId {
    const NOT_FOUND: Refusal = Refusal::ReservationNotFound;
}

impl<T: Named> FromRequestParts<AppState> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Ok(params) = RawPathParams::from_request_parts(parts, state).await else {
            return Err(T::NOT_FOUND.into());
        };
        params
            .iter()
            .find(|(name, _)| *name == "id")
            // i64's own parser would also take "+1".
            .filter(|(_, text)| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|(_, text)| text.parse::<i64>().ok())
            .and_then(|number| T::try_from(number).ok())
            .map(Self)
            .ok_or_else(|| T::NOT_FOUND.into())
    }
}

impl<T: Named + JsonSchema> Describe for Id<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.parameter(json!({
            "name": "id",
            "in": "path",
            "required": true,
            "schema": schemas.taken::<T>(),
        }));
        operation.refuse(&[Code::of(&T::NOT_FOUND)]);
    }
}

/// The parameters of a query, each at most once.
pub(crate) fn query_pairs(parts: &Parts) -> Result<Vec<(String, String)>, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let mut seen = HashSet::new();
    for (name, _) in &pairs {
        if !seen.insert(name) {
            return Err(Problem::InvalidQuery(format!("{name} is given twice")));
        }
    }
    Ok(pairs)
}

/// Proof that the request may do admin acts.
pub(crate) struct Admin;

impl FromRequestParts<AppState> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let headers = &parts.headers;
        match &state.admin_token {
            Some(token) if bearer(headers).is_some_and(|given| same(given, token)) => Ok(Self),
            Some(_) => Err(Problem::Unauthorized("the ADMIN_TOKEN")),
            // A request that a proxy forwards, or a browser for somebody else's page, comes from the loopback address too.
            None if state.loopback && !is_forwarded(headers) && is_of_this_host(headers) => {
                Ok(Self)
            }
            None => Err(Problem::Forbidden),
        }
    }
}

impl Describe for Admin {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.needs(&[ADMIN]);
        operation.refuse(&[Code::Forbidden]);
    }
}

/// Proof that the request may do everything else, and whose it is; where keys are in use, the request's extensions
/// tell it to who reads the body. The admin may, too.
impl FromRequestParts<AppState> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Some(keys) = &state.keys else {
            return Ok(Self::default());
        };
        let given = bearer(&parts.headers).unwrap_or_default();
        let admin = |token: &String| same(given, token);
        let client = match keys.client_of(given) {
            Some(client) => client,
            None if state.admin_token.as_ref().is_some_and(admin) => Self::default(),
            None => return Err(Problem::Unauthorized("an API key")),
        };
        parts.extensions.insert(client.clone());
        Ok(client)
    }
}

impl Describe for Client {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.needs(&[CLIENT, ADMIN]);
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, given) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(given.trim())
}

fn same(given: &str, token: &str) -> bool {
    given.as_bytes().ct_eq(token.as_bytes()).into()
}

/// Whether no other site's page has made a browser send this. Such a page's requests carry its origin; and where its
/// name leads to this machine all of a sudden (DNS rebinding), they carry its name as the host.
fn is_of_this_host(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(HeaderValue::to_str);
    let host = match text(header::HOST) {
        Some(Ok(host)) => host,
        None => "localhost",
        Some(Err(_)) => return false,
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let local = name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok();
    let origin = match text(header::ORIGIN) {
        Some(Ok(origin)) => origin
            .strip_prefix("http://")
            .is_some_and(|origin| origin.eq_ignore_ascii_case(host)),
        None => true,
        Some(Err(_)) => false,
    };
    // Browsers say of every request whose page has made them send it.
    let site = text(SEC_FETCH_SITE).is_none_or(|site| matches!(site, Ok("same-origin" | "none")));
    local && origin && site
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name == header::FORWARDED || name.as_str().starts_with("x-forwarded-"))
}
