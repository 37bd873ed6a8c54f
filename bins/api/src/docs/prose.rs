//! Renders descriptions. They use only a small part of CommonMark: paragraphs, lists and `code`.

use maud::{Markup, html};
use serde_json::Value;

/// The text of a field of a document. Empty if the field is missing.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Paragraphs and lists.
pub(super) fn prose(text: &str) -> Markup {
    html! {
        @for block in text.trim().split("\n\n") {
            @if block.starts_with("- ") {
                ul {
                    @for item in block.split("\n- ") { li { (line(item.trim_start_matches("- "))) } }
                }
            } @else {
                p { (line(block)) }
            }
        }
    }
}

/// One line, which may contain `code`.
pub(super) fn line(text: &str) -> Markup {
    html! {
        @for (position, part) in text.split('`').enumerate() {
            @if position % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
