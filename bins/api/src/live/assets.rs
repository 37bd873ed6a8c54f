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
const FILES: &[(&str, &str)] = files! {
    "access.js"
    "act.js"
    "action-dialog.js"
    "app.js"
    "audit.js"
    "chart.js"
    "delivery.js"
    "dialogs.css"
    "dialogs.js"
    "dom.js"
    "feed.js"
    "fields.js"
    "format.js"
    "funnel.js"
    "health.js"
    "icon.svg"
    "machines.js"
    "model.js"
    "panels.css"
    "product-row.js"
    "products.css"
    "products.js"
    "rates.js"
    "session.js"
    "sse.js"
    "stream.js"
    "style.css"
    "words.js"
    "vendor/uPlot.esm.js"
    "vendor/uPlot.min.css"
    "vendor/LICENSE"
};

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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::FILES;

    #[test]
    fn every_file_of_the_page_is_served() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/live/page");
        let mut files = BTreeSet::new();
        for (folder, prefix) in [(page.clone(), ""), (page.join("vendor"), "vendor/")] {
            let entries = fs::read_dir(folder).expect("the folder");
            let entries = entries.map(|entry| entry.expect("an entry"));
            let entries = entries.filter(|entry| entry.path().is_file());
            files.extend(
                entries.map(|entry| format!("{prefix}{}", entry.file_name().to_string_lossy())),
            );
        }
        let is_for_tests = |file: &str| file == "package.json" || file.ends_with(".test.js");
        files.retain(|file| file != "index.html" && !is_for_tests(file));
        let served: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(served, files);
    }
}
