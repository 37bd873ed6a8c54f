//! Access control: shops' backends authenticate with API keys, the administrator with a token.

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

/// The access settings.
pub(crate) struct Access {
    admin_token: Option<String>,
    /// Whether the API listens on a loopback address.
    loopback: bool,
    /// `None`: anyone who can reach the API may call it, except for admin requests.
    keys: Option<Keys>,
}

impl Access {
    /// Without a token, admin requests are allowed only directly from this machine, on a `loopback` address.
    pub(crate) fn new(admin_token: Option<String>, loopback: bool, keys: Option<Keys>) -> Self {
        match (&admin_token, loopback) {
            (Some(_), _) => tracing::info!("admin routes require the bearer token"),
            (None, true) => {
                tracing::warn!("no ADMIN_TOKEN: admin routes are open to this machine only")
            }
            (None, false) => tracing::warn!("no ADMIN_TOKEN: admin routes are closed"),
        }
        Self {
            admin_token,
            loopback,
            keys,
        }
    }
}

/// Proof that the request may use the admin routes.
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
            // Requests from a local proxy, or from a browser that shows another site's page, also have the loopback
            // address. Both must be refused.
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

/// Proof that the request may use the other routes, and the client that sent it. The admin token is accepted too. If
/// keys are in use, the client is also put into the request's extensions, where the idempotency key reads it.
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

/// Whether the request does not come from another site's page in a browser. Requests of such a page have its origin.
/// If the page's name is made to resolve to this machine (DNS rebinding), they have that name as the host.
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
    // Browsers state in this header which site's page caused the request.
    let site = text(SEC_FETCH_SITE).is_none_or(|site| matches!(site, Ok("same-origin" | "none")));
    local && origin && site
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name == header::FORWARDED || name.as_str().starts_with("x-forwarded-"))
}
