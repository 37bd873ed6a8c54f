//! The page itself: files that are part of the program.

use axum::{
    Router,
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{AppState, Problem, docs::headers};

/// The page asks only this host, runs only these scripts, and makes no markup from text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

macro_rules! files {
    ($($name:literal)+) => {
        &[$(($name, include_str!(concat!("page/", $name)))),+]
    };
}

/// Served under `/live/`.
const FILES: &[(&str, &str)] = files! { "style.css" "app.js" "icon.svg" };

pub(crate) fn router() -> Router<AppState> {
    let page = get(async || file("index.html", include_str!("page/index.html")));
    let files = get(async |Path(wanted): Path<String>| {
        let mut files = FILES.iter();
        let found = files.find(|(name, _)| *name == wanted);
        found
            .map(|(name, text)| file(name, text))
            .ok_or(Problem::NotFound)
    });
    Router::new().route("/", page).route("/live/{*file}", files)
}

fn file(name: &str, text: &'static str) -> Response {
    let media_type = match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
    (headers(POLICY), [(header::CONTENT_TYPE, media_type)], text).into_response()
}
