//! The response headers of all pages for people.

use axum::http::{HeaderName, header};

/// The headers of a page. `policy` is its Content-Security-Policy.
pub(crate) fn headers(policy: &'static str) -> [(HeaderName, &'static str); 4] {
    [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A new release may have a new page, so browsers must revalidate.
        (header::CACHE_CONTROL, "no-cache"),
    ]
}
