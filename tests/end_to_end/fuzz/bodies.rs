//! Random bodies, from valid to noise.

use proptest::{collection::vec, prelude::*, sample::select};

pub(super) fn strange() -> impl Strategy<Value = Vec<u8>> {
    let json = || prop_oneof![3 => objects(), 1 => values()];
    prop_oneof![
        8 => json().prop_map(String::into_bytes),
        4 => extremes().prop_map(|(_, _, body)| body.into_bytes()),
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

/// A valid request of each route with a body, with one field of any value: method, path and body.
pub(super) fn extremes() -> impl Strategy<Value = (&'static str, &'static str, String)> {
    // `@` is any value, and `#` is rather a time.
    let request = select(&[
        (
            "POST",
            "/products",
            r#"{"name":"x","stock":1,"hold_seconds":@}"#,
        ),
        (
            "POST",
            "/products",
            r#"{"name":"x","stock":1,"max_hold_seconds":@}"#,
        ),
        (
            "POST",
            "/products",
            r#"{"name":"x","stock":1,"max_per_user":@}"#,
        ),
        (
            "POST",
            "/products",
            r#"{"name":"x","stock":1,"sale_starts_at":#}"#,
        ),
        (
            "POST",
            "/products",
            r#"{"name":"x","stock":1,"sale_ends_at":#}"#,
        ),
        ("POST", "/products", r#"{"name":"x","stock":@}"#),
        ("POST", "/products", r#"{"name":@,"stock":1}"#),
        ("PATCH", "/products/1", r#"{"name":@}"#),
        ("PATCH", "/products/1", r#"{"max_per_user":@}"#),
        (
            "PATCH",
            "/products/1",
            r#"{"sale_starts_at":null,"sale_ends_at":#}"#,
        ),
        ("POST", "/products/1/stock", r#"{"delta":@,"reason":"x"}"#),
        ("POST", "/products/1/stock", r#"{"delta":1,"reason":@}"#),
        ("PUT", "/products/2/stock", r#"{"stock":@,"reason":"x"}"#),
        (
            "PUT",
            "/products/2/stock",
            r#"{"stock":1,"expected":@,"reason":"x"}"#,
        ),
        ("POST", "/products", r#"{"name":"x","stock":1,"sku":@}"#),
        ("PATCH", "/products/1", r#"{"sku":@}"#),
        ("POST", "/reservations", r#"{"sku":@,"user_id":1}"#),
        ("POST", "/reservations", r#"{"product_id":1,"user_id":@}"#),
        (
            "POST",
            "/reservations",
            r#"{"product_id":1,"user_id":1,"quantity":@}"#,
        ),
        (
            "POST",
            "/reservations",
            r#"{"product_id":1,"user_id":1,"reference":@}"#,
        ),
        (
            "POST",
            "/reservations/batch",
            r#"{"user_id":1,"items":[{"product_id":@}]}"#,
        ),
        ("POST", "/reservations/batch", r#"{"user_id":1,"items":@}"#),
        ("POST", "/reservations/1/extend", r#"{"seconds":@}"#),
        ("POST", "/reservations/batch/confirm", r#"{"ids":[1,@]}"#),
        (
            "POST",
            "/reservations/batch/confirm",
            r#"{"ids":[1],"reacquire":@}"#,
        ),
        ("POST", "/reservations/batch/cancel", r#"{"ids":@}"#),
        (
            "POST",
            "/reservations/batch/extend",
            r#"{"ids":[2],"seconds":@}"#,
        ),
        ("POST", "/products/2/waitlist", r#"{"user_id":@}"#),
        (
            "POST",
            "/products/2/waitlist",
            r#"{"user_id":1,"quantity":@}"#,
        ),
        (
            "POST",
            "/products/2/waitlist",
            r#"{"user_id":2,"reference":@}"#,
        ),
        ("POST", "/waitlist", r#"{"product_id":@,"user_id":3}"#),
        ("POST", "/waitlist", r#"{"sku":@,"user_id":3}"#),
        (
            "POST",
            "/admin/outbox/replay",
            r##"{"from":#,"to":"9999-12-31T23:59:59Z"}"##,
        ),
        (
            "POST",
            "/admin/outbox/replay",
            r##"{"from":"0000-01-01T00:00:00Z","to":#}"##,
        ),
    ]);
    let rather_a_time = prop_oneof![3 => times(), 1 => values()];
    (request, values(), rather_a_time).prop_map(|((method, path, body), value, time)| {
        let body = body.replace('@', &value).replace('#', &time);
        (method, path, body)
    })
}

/// Times around the ends of what RFC 3339 can write, and others.
fn times() -> impl Strategy<Value = String> {
    let day = prop_oneof![
        2 => Just("0000-01-01"),
        2 => Just("9999-12-31"),
        2 => select(&["2026-11-27", "2024-02-29", "2026-02-29", "0000-00-00", "1970-01-01", "99999-01-01"]),
    ];
    let time = prop_oneof![
        2 => select(&["T00:00:00", "T23:59:59"]),
        1 => select(&["T23:59:60", "T24:00:00", " 12:00:00", "t12:00:00.9999999999", ""]),
    ];
    let offset = prop_oneof![
        2 => select(&["-01:00", "+01:00", "-23:59", "+23:59"]),
        1 => select(&["Z", "z", "+24:00", "-00:00", "+99:99", ""]),
    ];
    (day, time, offset).prop_map(|(day, time, offset)| format!("\"{day}{time}{offset}\""))
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
        "sku",
        "expected",
        "quantity",
        "reference",
        "items",
        "ids",
        "seconds",
        "delta",
        "reason",
        "reacquire",
        "hold_seconds",
        "max_hold_seconds",
        "from",
        "to",
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
        2 => times(),
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
