//! Random bodies, from valid to noise.

use proptest::{collection::vec, prelude::*, sample::select};

pub(super) fn strange() -> impl Strategy<Value = Vec<u8>> {
    let json = || prop_oneof![3 => objects(), 1 => values()];
    prop_oneof![
        8 => json().prop_map(String::into_bytes),
        3 => right().prop_map(String::into_bytes),
        // Truncated.
        2 => (json(), any::<prop::sample::Index>()).prop_map(|(json, at)| {
            let mut bytes = json.into_bytes();
            bytes.truncate(at.index(bytes.len() + 1));
            bytes
        }),
        // With one byte changed.
        2 => (right(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(json, at, byte)| {
            let mut bytes = json.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        1 => nested(),
        1 => vec(any::<u8>(), 0..200),
        1 => Just(vec![]),
        // Around the size limit, and far beyond it.
        1 => prop_oneof![16_300..16_500_usize, 16_500..200_000_usize].prop_map(|length| {
            let mut body = br#"{"product_id":1,"user_id":7"#.to_vec();
            body.resize(length - 1, b' ');
            body.push(b'}');
            body
        }),
        1 => (1..20_000_usize, select(&["x", "\u{1f600}", "\\u0000", "\\n", "\u{301}"])).prop_map(
            |(times, piece)| {
                format!(r#"{{"name":"{}","stock":1}}"#, piece.repeat(times)).into_bytes()
            }
        ),
        // Another encoding, or a byte order mark.
        1 => right().prop_map(|json| json.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        1 => right().prop_map(|json| format!("\u{feff}{json}").into_bytes()),
    ]
}

/// Valid bodies.
fn right() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (1..4_i64, 1..1000_i64).prop_map(|(product, user)| {
            format!(r#"{{"product_id":{product},"user_id":{user}}}"#)
        }),
        1 => ("[a-z\u{e9}\u{1f600} ]{1,30}", 0..100_i32)
            .prop_map(|(name, stock)| format!(r#"{{"name":"{name}","stock":{stock}}}"#)),
        1 => Just("{}".to_owned()),
    ]
}

/// Objects with known and unknown fields, possibly repeated.
fn objects() -> impl Strategy<Value = String> {
    let name = select(&[
        "product_id",
        "user_id",
        "product_id",
        "user_id",
        "name",
        "stock",
        "quantity",
        "reference",
        "items",
        "seconds",
        "delta",
        "reason",
        "reacquire",
        "hold_seconds",
        "max_per_user",
        "sale_starts_at",
        "sale_ends_at",
        "status",
        "id",
        "expires_at",
        "",
        "Product_id",
        "product_id\\u0000",
        "__proto__",
        "\\ud800",
        "\u{1f600}",
    ]);
    let field = (name, values()).prop_map(|(name, value)| format!(r#""{name}":{value}"#));
    let reservation = (values(), values())
        .prop_map(|(product, user)| format!(r#"{{"product_id":{product},"user_id":{user}}}"#));
    let product = (values(), values())
        .prop_map(|(name, stock)| format!(r#"{{"name":{name},"stock":{stock}}}"#));
    let any = vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(",")));
    prop_oneof![3 => reservation, 3 => product, 2 => any]
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&[
            "1", "2", "7", "0", "-1", "-0", "1.0", "1.5", "1e0", "1e400", "-1e400", "1E-400", "2147483647",
            "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
            "18446744073709551616", "0.1e1", "123456789012345678901234567890",
        ])
        .prop_map(str::to_owned),
        2 => select(&[
            "null", "true", "false", "[]", "{}", "[1]", "[[1]]", r#"{"a":1}"#, r#""""#, r#""1""#, r#""x""#,
            r#""\u0000""#, r#""\ud800""#, r#""\udc00\ud800""#, r#""\uD83D\uDE00""#, r#""\x""#, "\"\t\"",
            "\"\u{0}\"", "\"\u{202e}abc\"", "\"e\u{301}\"", "\"\u{ffff}\"", "NaN", "Infinity", "01", "+1", ".5",
            "1.", "0x1", "'x'", "undefined", "// x", "/* x */ 1",
        ])
        .prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| number.to_string()),
        1 => (1..400_usize).prop_map(|digits| "9".repeat(digits)),
        1 => "\\PC{0,20}".prop_map(|text| serde_json::Value::from(text).to_string()),
        1 => (190..210_usize).prop_map(|length| format!("\"{}\"", "n".repeat(length))),
    ]
}

/// Deeply nested, closed or not.
fn nested() -> impl Strategy<Value = Vec<u8>> {
    let pair = select(&[("[", "]"), (r#"{"a":"#, "}"), (r#"{"product_id":["#, "]}")]);
    (pair, 1..8_000_usize, any::<bool>()).prop_map(|((open, close), depth, closed)| {
        let close = if closed { close } else { "" };
        format!("{}1{}", open.repeat(depth), close.repeat(depth)).into_bytes()
    })
}
