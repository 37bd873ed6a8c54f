//! Formatting of numbers.

use crate::stats::{Better, Goal};

/// `≥ 0.38`, or `≤ 1.3` if less is better.
pub(crate) fn bound(goal: Goal, value: f64) -> String {
    let sign = match goal.better {
        Better::Higher => "≥",
        Better::Lower => "≤",
    };
    format!("{sign} {value}")
}

/// Three significant digits. Whole numbers are shown in full, with separated thousands.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => thousands(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_or_all() {
        let texts = [0.4712, 1.0, 22.16, 318.4, 16_012.3, 1_234_567.0].map(number);
        assert_eq!(
            texts,
            ["0.471", "1.00", "22.2", "318", "16,012", "1,234,567"]
        );
    }
}
