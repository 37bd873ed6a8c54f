//! CORS: pages of the shop's own sites may read products and reservations.

use std::time::Duration;

use anyhow::ensure;
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tower::{Layer as _, ServiceExt as _};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::request_id::X_REQUEST_ID;

/// The routes whose GET these pages may use.
const ROUTES: [&str; 3] = ["/products", "/products/{id}", "/reservations/{id}"];

/// How long a browser remembers what is allowed.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The rules for these origins, a list that is separated by commas. `*` stands for every origin.
///
/// # Errors
///
/// One of them is no origin.
pub(crate) fn rules(origins: &str) -> anyhow::Result<CorsLayer> {
    let mut allowed = Vec::new();
    for origin in origins.split(',').map(str::trim) {
        ensure!(
            origin == "*" || is_origin(origin),
            "CORS_ORIGINS: {origin:?} is no origin, such as https://shop.example"
        );
        allowed.push(HeaderValue::from_str(origin)?);
    }
    let allowed = match allowed.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(allowed),
    };
    let exposed = [
        header::ETAG,
        header::LINK,
        header::RETRY_AFTER,
        X_REQUEST_ID,
    ];
    Ok(CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::AUTHORIZATION, header::IF_NONE_MATCH, X_REQUEST_ID])
        .expose_headers(exposed)
        .max_age(MAX_AGE))
}

/// Whether a browser may send this text as a page's origin: scheme, host, and perhaps a port.
fn is_origin(origin: &str) -> bool {
    let parsed = origin.parse::<Uri>().ok().map(Uri::into_parts);
    parsed.is_some_and(|parts| {
        let scheme = parts.scheme.as_ref().map(|scheme| scheme.as_str());
        matches!(scheme, Some("http" | "https"))
            && parts
                .authority
                .is_some_and(|host| !host.as_str().contains('@'))
            && !origin.ends_with('/')
            && parts.path_and_query.is_none_or(|path| path == "/")
            && origin.bytes().all(|byte| !byte.is_ascii_uppercase())
    })
}

/// Applies the rules to the reads that are open to pages. All other requests pass as they are.
pub(crate) async fn allow(
    State(rules): State<CorsLayer>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let is_open = route.is_some_and(|route| ROUTES.contains(&route.as_str()));
    if !is_open || !is_read(&request) {
        return next.run(request).await;
    }
    match rules.layer(next).oneshot(request).await {
        Ok(response) => response.into_response(),
        Err(never) => match never {},
    }
}

/// Whether the request is a read, or asks whether a read is allowed.
fn is_read(request: &Request) -> bool {
    let reads = |method: &str| matches!(method, "GET" | "HEAD");
    if request.method() != Method::OPTIONS {
        return reads(request.method().as_str());
    }
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    asked.is_some_and(|method| method.to_str().is_ok_and(reads))
}

#[cfg(test)]
mod tests {
    use super::rules;

    #[test]
    fn only_origins_are_taken() {
        for good in [
            "*",
            "https://shop.example",
            "http://localhost:3000",
            "https://a.example, https://b.example",
            "http://[::1]:8080",
        ] {
            assert!(rules(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "shop.example",
            "https://shop.example/",
            "https://shop.example/path",
            "https://user@shop.example",
            "https://Shop.example",
            "ftp://shop.example",
            "https://*.shop.example/x",
            "https://a.example,",
            "null",
        ] {
            assert!(rules(wrong).is_err(), "{wrong}");
        }
    }
}
