//! Access control: shops' backends authenticate with API keys, the administrator with a token.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};
use subtle::ConstantTimeEq as _;

use crate::{
    Problem,
    code::ProblemCode,
    cors::OpenToPages,
    keys::{Client, Keys},
    openapi::{ADMIN, CLIENT, Describe, Operation, Schemas},
    origin,
};

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

    fn is_sent_by_admin(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|given| self.is_admin(given))
    }

    fn is_admin(&self, given: &str) -> bool {
        let token = self.admin_token.as_ref();
        token.is_some_and(|token| same(given, token))
    }
}

/// Proof that the request may use the admin routes.
pub(crate) struct Admin;

impl<S> FromRequestParts<S> for Admin
where
    S: Send + Sync,
    &'static Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = <&Access>::from_ref(state);
        match &access.admin_token {
            Some(_) if access.is_sent_by_admin(&parts.headers) => Ok(Self),
            Some(_) => Err(Problem::Unauthorized("the ADMIN_TOKEN")),
            None if !access.loopback => Err(Problem::Forbidden(
                "no ADMIN_TOKEN is set, and the API does not listen on a loopback address"
                    .to_owned(),
            )),
            None => directly_from_here(parts).map(|()| Self),
        }
    }
}

/// Refuses requests from a local proxy, and from a browser that shows another site's page: both have the loopback
/// address, too.
fn directly_from_here(parts: &Parts) -> Result<(), Problem> {
    let refused = |why: String| {
        Err(Problem::Forbidden(format!(
            "no ADMIN_TOKEN is set, and the request does not come directly from this machine: {why}"
        )))
    };
    if let Some(sign) = origin::sign_of_a_proxy(parts) {
        return refused(sign);
    }
    if origin::is_of_another_site(parts) {
        return refused("it comes from another site's page".to_owned());
    }
    if !origin::is_for_an_address(parts) {
        return refused("its host is neither an address nor localhost".to_owned());
    }
    Ok(())
}

impl Describe for Admin {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.needs(&[ADMIN]);
        operation.refuse(&[ProblemCode::Forbidden]);
    }
}

/// Proof that the request may read, and the client that sent it. The admin token is accepted too. If keys are in use,
/// the client is also put into the request's extensions, where the idempotency key reads it. Pages do not know the keys.
/// Without keys, the request itself must show that it is not that of a page whose name resolves to the API.
impl<S> FromRequestParts<S> for Client
where
    S: Send + Sync,
    &'static Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = <&Access>::from_ref(state);
        let Some(keys) = &access.keys else {
            let is_allowed = !is_for_name_of_a_page(parts, access.loopback)
                || parts.extensions.get::<OpenToPages>().is_some()
                || access.is_sent_by_admin(&parts.headers);
            return match is_allowed {
                true => Ok(Self::default()),
                false => Err(Problem::Forbidden(
                    "no API_KEYS_FILE is set, and the request is for a host that is neither an address nor a name \
                        without dots"
                        .to_owned(),
                )),
            };
        };
        let given = bearer(&parts.headers).unwrap_or_default();
        let client = match keys.client_of(given) {
            Some(client) => client,
            None if access.is_admin(given) => Self::default(),
            None => return Err(Problem::Unauthorized("an API key")),
        };
        parts.extensions.insert(client.clone());
        Ok(client)
    }
}

impl Describe for Client {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.needs(&[CLIENT, ADMIN]);
        operation.refuse(&[ProblemCode::Forbidden]);
    }
}

/// Proof that the request may change something: a [`Client`] whose request no other site's page caused. A page need not
/// be able to read the answer to do harm.
pub(crate) struct ActingClient;

impl<S> FromRequestParts<S> for ActingClient
where
    S: Send + Sync,
    &'static Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Client::from_request_parts(parts, state).await?;
        let access = <&Access>::from_ref(state);
        let is_allowed = access.keys.is_some()
            || !origin::is_of_another_site(parts)
            || access.is_sent_by_admin(&parts.headers);
        match is_allowed {
            true => Ok(Self),
            false => Err(Problem::Forbidden(
                "no API_KEYS_FILE is set, and the request comes from another site's page"
                    .to_owned(),
            )),
        }
    }
}

impl Describe for ActingClient {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        Client::describe(operation, schemas);
    }
}

/// Whether the request may be for the name of a site whose page made it resolve to the API (DNS rebinding). For the
/// browser, the API is then a part of that site. On a loopback address the clients are programs of this machine, so the
/// API's host is no site's name. In a network it can have such a name, but a client is no browser.
fn is_for_name_of_a_page(parts: &Parts, loopback: bool) -> bool {
    let checks_host = loopback || origin::is_of_a_browser(&parts.headers);
    checks_host && !origin::is_for_a_local_name(parts)
}

/// The secret in the header `Authorization`. Two headers are none: it would not be clear which of them counts.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, given) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(given.trim())
}

fn same(given: &str, token: &str) -> bool {
    given.as_bytes().ct_eq(token.as_bytes()).into()
}
