//! CORS: pages of the shop's own sites may read products and reservations.

use std::time::Duration;

use anyhow::ensure;
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, Uri, header},
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

/// Which pages may read, and what their browsers are told.
#[derive(Clone)]
pub(crate) struct Rules {
    /// `None`: pages of every origin.
    origins: Option<Vec<HeaderValue>>,
    layer: CorsLayer,
}

/// Marks a request of a page that may read the answer.
#[derive(Clone)]
pub(crate) struct OpenToPages;

/// The rules for these origins, a list that is separated by commas. `*` stands for every origin.
///
/// # Errors
///
/// One of them is no origin.
pub(crate) fn rules(origins: &str) -> anyhow::Result<Rules> {
    let mut allowed = Vec::new();
    for origin in origins.split(',').map(str::trim) {
        ensure!(
            origin == "*" || is_origin(origin),
            "CORS_ORIGINS: {origin:?} is no origin, such as https://shop.example"
        );
        allowed.push(HeaderValue::from_str(origin)?);
    }
    let origins = (!allowed.iter().any(|origin| origin == "*")).then_some(allowed);
    let allowed = match &origins {
        None => AllowOrigin::any(),
        Some(origins) => AllowOrigin::list(origins.clone()),
    };
    let exposed = [
        header::ETAG,
        header::LINK,
        header::RETRY_AFTER,
        X_REQUEST_ID,
    ];
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::AUTHORIZATION, header::IF_NONE_MATCH, X_REQUEST_ID])
        .expose_headers(exposed)
        .max_age(MAX_AGE);
    Ok(Rules { origins, layer })
}

impl Rules {
    /// Whether the request is that of a page of these origins. If the API has the page's own name, behind a proxy, a
    /// browser sends no `Origin`, and the page's origin is the host.
    fn are_for(&self, headers: &HeaderMap) -> bool {
        let Some(origins) = &self.origins else {
            return true;
        };
        if let Some(origin) = headers.get(header::ORIGIN) {
            return origins.contains(origin);
        }
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        let hosts = origins.iter().filter_map(|origin| {
            let origin = origin.as_bytes();
            let https = origin.strip_prefix(b"https://");
            https.or_else(|| origin.strip_prefix(b"http://"))
        });
        host.is_some_and(|host| hosts.into_iter().any(|of_page| of_page == host))
    }
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
    State(rules): State<Rules>,
    route: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_open = route.is_some_and(|route| ROUTES.contains(&route.as_str()));
    if !is_open || !is_read(&request) {
        return next.run(request).await;
    }
    if rules.are_for(request.headers()) {
        request.extensions_mut().insert(OpenToPages);
    }
    match rules.layer.layer(next).oneshot(request).await {
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
