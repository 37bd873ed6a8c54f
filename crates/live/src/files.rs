//! The files of the page. They are compiled into the program.

/// The Content-Security-Policy of the page. The page may connect only to its own host, run only its own scripts, and
/// not turn text into markup.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The page itself.
pub const PAGE: File = File {
    media_type: "text/html; charset=utf-8",
    text: include_str!("page/index.html"),
};

/// A file of the page.
pub struct File {
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub text: &'static str,
}

macro_rules! files {
    ($($name:literal)+) => {
        &[$(($name, include_str!(concat!("page/", $name)))),+]
    };
}

/// The files under `/live/`, by name.
const FILES: &[(&str, &str)] = files! {
    "access.js"
    "act.js"
    "action-dialog.js"
    "app.js"
    "audit.js"
    "chart.js"
    "csv.js"
    "dead-events.js"
    "delivery.js"
    "dialogs.css"
    "dialogs.js"
    "dom.js"
    "feed.js"
    "fields.js"
    "find.js"
    "format.js"
    "funnel.js"
    "health.js"
    "icon.svg"
    "machines.js"
    "model.js"
    "pace.js"
    "panels.css"
    "product-row.js"
    "product-view.js"
    "product.css"
    "products.css"
    "products.js"
    "ranges.js"
    "rates.js"
    "read.js"
    "reservation-table.js"
    "route.js"
    "rules.js"
    "session.js"
    "sse.js"
    "stream.js"
    "style.css"
    "transitions.js"
    "trend.js"
    "waitlists.js"
    "words.js"
    "vendor/uPlot.esm.js"
    "vendor/uPlot.min.css"
    "vendor/LICENSE"
};

/// The files under `/live/`, by name.
pub fn files() -> impl Iterator<Item = (&'static str, File)> {
    FILES.iter().map(|(name, text)| (*name, file(name, text)))
}

fn file(name: &str, text: &'static str) -> File {
    let media_type = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
    File { media_type, text }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::FILES;

    #[test]
    fn every_file_of_the_page_is_served() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
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
