//! The schema beside the parser: whatever a schema allows is read, and whatever it forbids is refused.
//!
//! Values are drawn from each schema's own limits, on both sides of them, and from extremes of every type.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::documents::operations;
use crate::support::{Answer, OPENAPI, System};

/// Extremes of every type, as JSON texts. Numbers beyond 2⁵³ with a fraction or an exponent are missing: JSON Schema
/// counts them as whole numbers, but parsers round them.
pub(super) const VALUES: [&str; 79] = [
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[1]",
    "[[1]]",
    r#"[{"a":1}]"#,
    r#"{"a":1}"#,
    r#"[{"product_id":1}]"#,
    "[[1,1]]",
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "1.0",
    "-1.0",
    "0.0",
    "1.5",
    "1e0",
    "1e2",
    "100e-2",
    "0.1e1",
    "5e-324",
    "1e308",
    "-1e308",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "2147483647.0",
    "4294967296",
    "31536000",
    "31536001",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    r#""""#,
    r#""1""#,
    r#""0""#,
    r#""true""#,
    r#""null""#,
    r#"" ""#,
    r#""\u0000""#,
    r#""a\u0000b""#,
    r#""a\nb\r\tc""#,
    r#""\u2028""#,
    r#""\ud83d\ude00""#,
    r#""\ufeff""#,
    r#""\uffff""#,
    r#""ACTIVE""#,
    r#""2026-11-27""#,
    r#""2026-11-27T12:00:00""#,
    r#""2026-11-27T12:00:00Z""#,
    r#""2026-11-27t12:00:00z""#,
    r#""2026-11-27 12:00:00Z""#,
    r#""2026-11-27X12:00:00Z""#,
    r#""2026-11-27T12:00:00.1234567890123Z""#,
    r#""2026-11-27T12:00:00.Z""#,
    r#""2026-11-27T12:00:00+23:59""#,
    r#""2026-11-27T12:00:00+24:00""#,
    r#""2026-11-27T12:00:00-0100""#,
    r#""2026-11-27T24:00:00Z""#,
    r#""2026-12-31T23:59:60Z""#,
    r#""2026-02-29T12:00:00Z""#,
    r#""2024-02-29T12:00:00Z""#,
    r#""0000-01-01T00:00:01Z""#,
    r#""0000-01-01T00:00:00+00:01""#,
    r#""0000-01-01T00:00:00-00:01""#,
    r#""9999-12-31T23:59:59Z""#,
    r#""9999-12-31T23:59:59-01:00""#,
    r#""9999-12-31T23:59:59-00:00""#,
    r#""9999-12-31T23:59:59+23:59""#,
    r#""+10000-01-01T00:00:00Z""#,
    r#""-0001-01-01T00:00:00Z""#,
];

/// Values around the limits of a schema.
pub(super) fn around_limits(schema: &Value) -> Vec<String> {
    let mut values = Vec::new();
    for limit in ["minimum", "maximum"] {
        if let Some(limit) = schema[limit].as_i64() {
            let around = [limit.checked_sub(1), Some(limit), limit.checked_add(1)];
            values.extend(
                around
                    .into_iter()
                    .flatten()
                    .map(|number| number.to_string()),
            );
        }
    }
    for limit in ["minLength", "maxLength"] {
        if let Some(limit) = schema[limit].as_u64() {
            for length in limit.saturating_sub(1)..=limit + 1 {
                // One, two and four bytes.
                for character in ["x", "\u{e9}", "\u{1f600}"] {
                    values.push(json!(character.repeat(length as usize)).to_string());
                }
            }
        }
    }
    for limit in ["minItems", "maxItems"] {
        if let Some(limit) = schema[limit].as_u64() {
            for length in limit.saturating_sub(1)..=limit + 1 {
                let items: Value = (1..=length)
                    .map(|product| json!({"product_id": product}))
                    .collect();
                values.push(items.to_string());
            }
        }
    }
    values
}

/// A good body for each operation with a body, by the operation's name. `7` stands for an id that does not exist.
pub(super) fn good_body(operation: &str) -> Value {
    let no_window = json!({"sale_starts_at": null, "sale_ends_at": null});
    match operation {
        "createProduct" => json!({"name": "x", "stock": 1}),
        "changeProduct" => no_window,
        "adjustStock" => json!({"delta": -1, "reason": "x"}),
        "setStock" => json!({"stock": 1, "reason": "x"}),
        "confirmBatch" | "cancelBatch" => json!({"ids": [1]}),
        "extendBatch" => json!({"ids": [1], "seconds": 1}),
        "reserveProduct" => json!({"product_id": 7, "user_id": 1}),
        "reserveBatch" => json!({"user_id": 1, "items": [{"product_id": 7, "quantity": 1}]}),
        "confirmReservation" => json!({}),
        "extendReservation" => json!({"seconds": 1}),
        "joinWaitlist" => json!({"user_id": 1}),
        "createWaitlistEntry" => json!({"product_id": 7, "user_id": 1}),
        "replayEvents" => json!({"from": "0000-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.9Z"}),
        other => panic!("a body that this test does not know: {other}"),
    }
}

/// A body: the good one with this text at this place.
struct Body {
    pointer: String,
    text: String,
}

fn with(body: &Value, parent: &str, name: &str, text: &str) -> Body {
    const PLACE: &str = "the place";
    let mut body = body.clone();
    body.pointer_mut(parent).unwrap()[name] = PLACE.into();
    Body {
        pointer: format!("{parent}/{name}"),
        text: body.to_string().replace(&json!(PLACE).to_string(), text),
    }
}

fn bodies(operation: &str, schema: &Value) -> Vec<Body> {
    let good = good_body(operation);
    let mut bodies = vec![with(&good, "", "surplus", "1")];
    let mut add = |parent: &str, schema: &Value| {
        for (name, field) in schema["properties"].as_object().unwrap() {
            let drawn = around_limits(field);
            let extremes = VALUES.iter().map(|text| (*text).to_owned());
            bodies.extend(
                extremes
                    .chain(drawn)
                    .map(|text| with(&good, parent, name, &text)),
            );
            let mut without = good.clone();
            let fields = without
                .pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap();
            fields.remove(name);
            bodies.push(Body {
                pointer: format!("{parent}/{name}"),
                text: without.to_string(),
            });
        }
    };
    add("", schema);
    if operation == "reserveBatch" {
        let item = schema["properties"]["items"]["items"]["$ref"]
            .as_str()
            .unwrap();
        add(
            "/items/0",
            OPENAPI
                .document
                .pointer(item.trim_start_matches('#'))
                .unwrap(),
        );
    }
    bodies.extend(VALUES.iter().map(|text| Body {
        pointer: String::new(),
        text: (*text).to_owned(),
    }));
    bodies
}

const REFUSED: [&str; 3] = ["invalid_json", "invalid_request", "invalid_product"];

#[tokio::test]
async fn a_body_is_read_exactly_if_its_schema_allows_it() {
    let system = System::start().await;
    let product = system.create_product(0).await;
    let (mut read, mut refused) = (0, 0);
    for (path, method, operation) in operations() {
        let Some(content) = operation["requestBody"]["content"].as_object() else {
            continue;
        };
        let reference = content["application/json"]["schema"]["$ref"]
            .as_str()
            .unwrap();
        let pointer = reference.trim_start_matches('#');
        let schema = OPENAPI.document.pointer(pointer).unwrap();
        let path = path.replace("{id}", &product.to_string());
        let name = operation["operationId"].as_str().unwrap();
        for body in bodies(name, schema) {
            // A stock that grows by the largest number twice is too large. All other requests change no stock.
            let path = match name {
                "adjustStock" => format!("/products/{}/stock", system.create_product(0).await),
                _ => path.clone(),
            };
            let request = system.request(method.to_uppercase().parse().unwrap(), &path);
            let request = request.header("content-type", "application/json");
            let answer = Answer::to(request.body(body.text.clone())).await;
            let about = format!("{name} {}: {} {}", body.text, answer.status, answer.text);
            assert!(answer.status.as_u16() < 500, "{about}");
            let problem = match answer.status.is_success() {
                true => Value::Null,
                false => answer.json(),
            };
            let is_refused = REFUSED.iter().any(|code| problem["code"] == *code);
            let value: Value = serde_json::from_str(&body.text).unwrap();
            let allowed = OPENAPI.check(pointer, &value);
            assert_eq!(is_refused, allowed.is_err(), "{about} {allowed:?}");
            if let Some("invalid_request" | "invalid_product") = problem["code"].as_str() {
                check_errors(&problem, &body.pointer, &about);
            }
            *(if is_refused { &mut refused } else { &mut read }) += 1;
        }
    }
    assert!(read > 300 && refused > 1_000, "{read} {refused}");
}

/// Each error is at the place of the fault, and says what is expected there.
fn check_errors(problem: &Value, pointer: &str, about: &str) {
    let errors = problem["errors"].as_array().expect(about);
    assert!(!errors.is_empty(), "{about}");
    for error in errors {
        let place = error["pointer"].as_str().unwrap();
        let is_there = place == pointer || place.starts_with(&format!("{pointer}/"));
        assert!(is_there, "{about}");
        says_what_is_expected(&error["detail"], about);
    }
    says_what_is_expected(&problem["detail"], about);
}

/// The text says what is expected, in words of JSON: it has no name of a Rust type, and no word of a Rust parser.
pub(super) fn says_what_is_expected(detail: &Value, about: &str) {
    let detail = detail.as_str().expect(about);
    let says = [
        "expected ",
        "must ",
        "is missing",
        "out of range",
        "to change the stock, use",
    ];
    assert!(says.iter().any(|words| detail.contains(words)), "{about}");
    for word in [
        "i64",
        "i32",
        "u64",
        "f64",
        "struct",
        "tuple",
        "option",
        "Create",
        "Wanted",
        "line 1",
        "sequence",
        "a map",
        "integer",
        "floating point",
        "boolean",
        "JSON number",
        "invalid type",
        "invalid value",
        "invalid length",
        "variant",
    ] {
        assert!(!detail.contains(word), "{word}: {about}");
    }
}

#[tokio::test]
async fn several_faults_are_told_at_once() {
    let system = System::start().await;
    let body = r#"{"colour": 1, "product_id": "1", "user_id": -1, "quantity": null}"#;
    let problem = system
        .post_raw("/reservations", body)
        .await
        .expect_problem(422, "invalid_request");
    let places: BTreeSet<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(
        places,
        BTreeSet::from(["/colour", "/product_id", "/user_id", "/quantity"])
    );
    let problem = system
        .post_raw("/products", "{}")
        .await
        .expect_problem(422, "invalid_request");
    let missing = "the field is missing";
    let wanted =
        json!([{"pointer": "/name", "detail": missing}, {"pointer": "/stock", "detail": missing}]);
    assert_eq!(problem["errors"], wanted);
    let twice = json!({"user_id": 1, "items": [{"product_id": 1}, {"product_id": 1}]});
    let problem = system
        .post_json("/reservations/batch", &twice)
        .await
        .expect_problem(422, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "/items/1/product_id");
    let range = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
    let problem = system
        .post_json("/admin/outbox/replay", &range)
        .await
        .expect_problem(422, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "/to");
    system.create_product(1).await;
    let problem = system
        .admin_json(Method::PATCH, "/products/1", &json!({"stock": 1}))
        .await;
    let problem = problem.expect_problem(422, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "/stock");
    let much = json!({"delta": i32::MAX, "reason": "x"});
    let problem = system
        .post_json("/products/1/stock", &much)
        .await
        .expect_problem(422, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "/delta");
    let twice = json!({"ids": [5, 7, 5]});
    for path in ["confirm", "cancel"] {
        let problem = system
            .post_json(&format!("/reservations/batch/{path}"), &twice)
            .await
            .expect_problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "/ids/2", "{path}");
    }
}

#[tokio::test]
async fn all_faults_of_a_product_are_told_at_once() {
    let system = System::start().await;
    system.create_product(1).await;
    let wrong = json!({
        "name": "", "sku": "a b", "hold_seconds": 0, "max_hold_seconds": 1.5, "max_per_user": -1,
        "sale_starts_at": "tomorrow", "sale_ends_at": "2026-02-30T00:00:00Z",
    });
    let mut new = wrong.clone();
    new["stock"] = (-1).into();
    for (method, path, body) in [
        (Method::POST, "/products", &new),
        (Method::PATCH, "/products/1", &wrong),
    ] {
        let problem = system.admin_json(method, path, body).await;
        let problem = problem.expect_problem(422, "invalid_product");
        let errors = problem["errors"].as_array().unwrap();
        let places = errors
            .iter()
            .map(|error| error["pointer"].as_str().unwrap());
        let fields = body.as_object().unwrap().keys();
        let wanted: BTreeSet<String> = fields.map(|field| format!("/{field}")).collect();
        assert_eq!(places.map(str::to_owned).collect::<BTreeSet<_>>(), wanted);
        for error in errors {
            says_what_is_expected(&error["detail"], path);
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                detail.contains(error["detail"].as_str().unwrap()),
                "{detail}"
            );
        }
    }
    let (start, end) = ("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z");
    let no_time = json!({"name": "", "sale_starts_at": start, "sale_ends_at": end});
    let problem = system
        .admin_json(Method::PATCH, "/products/1", &no_time)
        .await;
    let problem = problem.expect_problem(422, "invalid_product");
    let places = problem["errors"].as_array().unwrap().iter();
    let places: BTreeSet<_> = places
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(places, BTreeSet::from(["/name", "/sale_ends_at"]));
}

/// JSON Schema counts `1e18` as a whole number, and parsers round it. So the schemas say in words that it is refused.
#[tokio::test]
async fn a_schema_of_large_numbers_says_that_they_have_digits_only() {
    const EXACT_MAX: i64 = 9_007_199_254_740_991;
    let system = System::start().await;
    let mut checked = 0;
    for (path, method, operation) in operations() {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let Some(reference) = body.as_str() else {
            continue;
        };
        let pointer = reference.trim_start_matches('#');
        let schema = OPENAPI.document.pointer(pointer).unwrap();
        let good = good_body(operation["operationId"].as_str().unwrap());
        for (name, field) in schema["properties"].as_object().unwrap() {
            let of_items = &field["items"];
            let is_list = of_items["type"] == "integer";
            let number = if is_list { of_items } else { field };
            if number["maximum"]
                .as_i64()
                .is_none_or(|most| most <= EXACT_MAX)
            {
                continue;
            }
            let words = number["description"].as_str().unwrap_or_default();
            assert!(words.contains("digits only"), "{path} {name}: {words:?}");
            checked += 1;
            for (text, is_read) in [
                ("9007199254740993", true),
                ("1e18", false),
                ("9007199254740993.0", false),
            ] {
                let text = if is_list {
                    format!("[{text}]")
                } else {
                    text.to_owned()
                };
                let body = with(&good, "", name, &text);
                let path = path.replace("{id}", "1");
                let request = system.request(method.to_uppercase().parse().unwrap(), &path);
                let request = request.header("content-type", "application/json");
                let answer = Answer::to(request.body(body.text)).await;
                let is_refused = answer.status == 422;
                assert_eq!(is_refused, !is_read, "{path} {name} {text}: {answer:?}");
            }
        }
    }
    assert!(checked >= 6, "{checked}");
}
