//! Who may call the API: shops' backends by their keys, and the administrator by a token.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
};
use subtle::ConstantTimeEq as _;

use crate::{
    Problem,
    code::ProblemCode,
    keys::{Client, Keys},
    openapi::{ADMIN, CLIENT, Describe, Operation, Schemas},
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who has access.
pub(crate) struct Access {
    admin_token: Option<String>,
    /// Whether the API listens on a loopback address.
    loopback: bool,
    /// `None`: anyone who can reach the API may call it, except for admin acts.
    keys: Option<Keys>,
}

impl Access {
    /// Without a token, admin acts are allowed only directly from this machine, on a `loopback` address.
    pub(crate) fn new(admin_token: Option<String>, loopback: bool, keys: Option<Keys>) -> Self {
        match (&admin_token, loopback) {
            (Some(_), _) => tracing::info!("admin routes require the bearer token"),
            (None, true) => tracing::warn!("no ADMIN_TOKEN: admin routes are open to this machine"),
            (None, false) => tracing::warn!("no ADMIN_TOKEN: admin routes are closed"),
        }
        Self {
            admin_token,
            loopback,
            keys,
        }
    }
}

/// Proof that the request may do admin acts.
pub(crate) struct Admin;

impl<S> FromRequestParts<S> for Admin
where
    S: Send + Sync,
    Arc<Access>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = Arc::<Access>::from_ref(state);
        let headers = &parts.headers;
        match &access.admin_token {
            Some(token) if bearer(headers).is_some_and(|given| same(given, token)) => Ok(Self),
            Some(_) => Err(Problem::Unauthorized("the ADMIN_TOKEN")),
            // A request that a proxy forwards, or a browser for somebody else's page, comes from the loopback address too.
            None if access.loopback && !is_forwarded(headers) && is_of_this_host(headers) => {
                Ok(Self)
            }
            None => Err(Problem::Forbidden),
        }
    }
}

impl Describe for Admin {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.needs(&[ADMIN]);
        operation.refuse(&[ProblemCode::Forbidden]);
    }
}

/// Proof that the request may do everything else, and whose it is; where keys are in use, the request's extensions
/// tell it to who reads the body. The admin may, too.
impl<S> FromRequestParts<S> for Client
where
    S: Send + Sync,
    Arc<Access>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = Arc::<Access>::from_ref(state);
        let Some(keys) = &access.keys else {
            return Ok(Self::default());
        };
        let given = bearer(&parts.headers).unwrap_or_default();
        let admin = |token: &String| same(given, token);
        let client = match keys.client_of(given) {
            Some(client) => client,
            None if access.admin_token.as_ref().is_some_and(admin) => Self::default(),
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
