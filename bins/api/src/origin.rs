//! Where a request without a secret comes from: directly from a program on this machine, through a proxy, or from
//! another site's page in a browser.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Version, header, request::Parts};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers that clients send, in addition to [`CLIENT_FAMILIES`]. All other headers are taken for a proxy's: every
/// product has its own names, so a list of proxies' headers would always be incomplete.
const CLIENT_HEADERS: [&str; 28] = [
    "authorization",
    "baggage",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "dnt",
    "expect",
    "from",
    "host",
    "http2-settings",
    "idempotency-key",
    "keep-alive",
    "last-event-id",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "x-request-id",
    "x-requested-with",
];

/// Beginnings of the names of further headers that clients send.
const CLIENT_FAMILIES: [&str; 4] = ["accept", "content-", "if-", "sec-"];

/// Whether the request names its host as HTTP/1.1 requires it (RFC 9112, section 3.2): once, and with a valid value. A
/// proxy in front of the service and the service itself could understand any other request in different ways.
pub(crate) fn names_its_host(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => version < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// Whether these are a name or an address, and perhaps a port.
fn is_host(host: &[u8]) -> bool {
    let is_allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
    !host.is_empty() && host.iter().all(is_allowed)
}

/// What shows that a proxy sent the request. A proxy that adds nothing cannot be noticed.
pub(crate) fn sign_of_a_proxy(parts: &Parts) -> Option<String> {
    // nginx before 1.29.7 sends HTTP/1.0 by default. It names the API's own address as the host, and adds no header.
    if parts.version < Version::HTTP_11 {
        return Some("it is an HTTP/1.0 request, as proxies send it".to_owned());
    }
    // Clients send a whole address only to a proxy.
    if parts.uri.authority().is_some() {
        return Some("its target is a whole address".to_owned());
    }
    let foreign = parts.headers.keys().find(|name| {
        let name = name.as_str();
        !CLIENT_HEADERS.contains(&name)
            && !CLIENT_FAMILIES.iter().any(|start| name.starts_with(start))
    })?;
    Some(format!("it has the header {foreign}"))
}

/// Whether another site's page made a browser send the request. Such a request has the page's origin.
pub(crate) fn is_of_another_site(parts: &Parts) -> bool {
    let mut origins = parts.headers.get_all(header::ORIGIN).iter();
    let same = |origin: &HeaderValue| {
        let origin = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://"));
        origin
            .is_some_and(|origin| host(parts).is_some_and(|host| host.eq_ignore_ascii_case(origin)))
    };
    // Browsers state in this header which site's page caused the request.
    let mut sites = parts.headers.get_all(SEC_FETCH_SITE).iter();
    !origins.all(same) || !sites.all(|site| site == "same-origin" || site == "none")
}

/// Whether the request is for an address, or for `localhost`. If the name of another site's page is made to resolve
/// to this machine (DNS rebinding), the request is for that name.
pub(crate) fn is_for_an_address(parts: &Parts) -> bool {
    let Some(name) = host(parts).map(without_port) else {
        return false;
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Whether the request is for an address, or for a name that no other site can have: sites have names with dots.
pub(crate) fn is_for_a_local_name(parts: &Parts) -> bool {
    let name = host(parts).map(without_port);
    is_for_an_address(parts) || name.is_some_and(|name| !name.contains('.'))
}

/// Whether a browser sent the request. Browsers send at least one of these headers with every POST. With a GET, they send
/// one if the page is of another origin, or if they trust the connection (HTTPS).
pub(crate) fn is_of_a_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE)
}

/// The host that the request is for. A whole address in the target takes precedence over the header (RFC 9112, section
/// 3.2.2). `None`: the header is not text.
fn host(parts: &Parts) -> Option<&str> {
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.as_str());
    }
    match parts.headers.get(header::HOST) {
        Some(host) => host.to_str().ok(),
        // Only an HTTP/1.0 request may have no host. No browser sends one.
        None => Some("localhost"),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}
