//! Descriptions: the little of CommonMark that they use.

use maud::{Markup, html};

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

/// One line, with `code` in it.
pub(super) fn line(text: &str) -> Markup {
    html! {
        @for (position, part) in text.split('`').enumerate() {
            @if position % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
