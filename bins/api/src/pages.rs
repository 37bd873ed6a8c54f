//! What all pages for people have in common.

use axum::http::{HeaderName, header};

/// Their headers. `policy` is the page's Content-Security-Policy.
pub(crate) fn headers(policy: &'static str) -> [(HeaderName, &'static str); 4] {
    [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A new release may have a new page.
        (header::CACHE_CONTROL, "no-cache"),
    ]
}
