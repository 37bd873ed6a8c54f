//! The API's documents: OpenAPI and AsyncAPI for programs, and the page `/docs` for people, made of both.

mod console;
mod page;
mod prose;
mod schema;

use axum::{
    Router,
    http::HeaderMap,
    response::Redirect,
    routing::{MethodRouter, get},
};
use serde_json::Value;

use crate::pages::Document;

/// The events of the relay, as `flashsale-relay asyncapi` prints them. A test compares the two.
const ASYNCAPI: &str = include_str!("../../../docs/asyncapi.json");

/// The page runs only its own scripts, connects only to its own host, and turns no text into markup. This policy makes
/// the browser block everything else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

macro_rules! files {
    ($($name:literal)+) => {
        [$(($name, include_str!(concat!("docs/", $name)))),+]
    };
}

/// The files under `/docs/`, by name.
const FILES: [(&str, &str); 6] = files! {
    "console.js"
    "copy.js"
    "docs.js"
    "request.js"
    "search.js"
    "style.css"
};

pub(crate) fn router<S: Clone + Send + Sync + 'static>(openapi: &Value) -> Router<S> {
    // Parsing cannot fail: the file is compiled into this program, and a test parses it.
    let asyncapi: Value = serde_json::from_str(ASYNCAPI).unwrap_or_default();
    let page = page::page(openapi, &asyncapi).into_string();
    let mut router = Router::new()
        .route(
            "/openapi.json",
            text("application/json", openapi.to_string()),
        )
        .route(
            "/asyncapi.json",
            text("application/json", asyncapi.to_string()),
        )
        .route("/docs", text("text/html; charset=utf-8", page))
        // People type it. The target is relative, because a proxy may serve the API under a prefix.
        .route("/docs/", get(async || Redirect::permanent("../docs")));
    for (name, content) in FILES {
        let media_type = match name.ends_with(".js") {
            true => "text/javascript; charset=utf-8",
            false => "text/css; charset=utf-8",
        };
        router = router.route(
            &format!("/docs/{name}"),
            text(media_type, content.to_owned()),
        );
    }
    router
}

fn text<S: Clone + Send + Sync + 'static>(
    media_type: &'static str,
    text: String,
) -> MethodRouter<S> {
    let document = Document::new(media_type, POLICY, text);
    get(async move |headers: HeaderMap| document.response(&headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs");
        let entries = std::fs::read_dir(folder).expect("the folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".css") || name.ends_with(".js"))
            .filter(|name| !name.ends_with(".test.js"))
            .collect();
        names.sort();
        assert_eq!(names, FILES.map(|(name, _)| name));
    }
}
