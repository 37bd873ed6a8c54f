//! The schema beside the parser: whatever a schema allows is read, and whatever it forbids is refused.
//!
//! Values are drawn from each schema's own limits, on both sides of them, and from extremes of every type.

use std::collections::BTreeSet;

use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::documents::operations;
use crate::support::{Answer, OPENAPI, System};

/// Extremes of every type, as JSON texts. Numbers beyond 2⁵³ with a fraction or an exponent are missing: JSON Schema
/// counts them as whole numbers, but parsers round them.
const VALUES: [&str; 79] = [
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
fn around_limits(schema: &Value) -> Vec<String> {
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
fn good_body(operation: &str) -> Value {
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
            match problem["code"].as_str() {
                Some("invalid_request") => check_errors(&problem, &body.pointer, &about),
                Some("invalid_product") => says_what_is_expected(&problem["detail"], &about),
                _ => {}
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
fn says_what_is_expected(detail: &Value, about: &str) {
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
async fn a_parameter_is_read_exactly_if_its_schema_allows_it() {
    let system = System::start().await;
    let product = system.create_product(1).await.to_string();
    let (mut read, mut refused) = (0, 0);
    for (path, method, operation) in operations() {
        let route = path.replace("{id}", &product);
        for (number, parameter) in operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            if parameter["in"] != "query" {
                continue;
            }
            let name = parameter["name"].as_str().unwrap();
            let pointer = format!(
                "/paths/{}/{method}/parameters/{number}/schema",
                path.replace('/', "~1")
            );
            let more = [
                "", "01", "00", "+1", "1 ", " 1", "1,2", "ACTIVE", "active", "EXPIRED", "WAITING",
                "newest", "oldest", "\u{661}", "a+b", "%zz",
            ];
            let texts: BTreeSet<String> = VALUES
                .iter()
                .map(|text| text.trim_matches('"').to_owned())
                .chain(
                    around_limits(&parameter["schema"])
                        .iter()
                        .map(|text| text.trim_matches('"').to_owned()),
                )
                .chain(more.map(str::to_owned))
                .collect();
            for text in texts {
                let mut url = Url::parse(system.base()).unwrap();
                url.query_pairs_mut().append_pair(name, &text);
                let answer = system
                    .get(&format!("{route}?{}", url.query().unwrap()))
                    .await;
                assert!(answer.status.as_u16() < 500, "{name}={text} {answer:?}");
                // A number is written with digits only.
                let digits = text.strip_prefix('-').unwrap_or(&text);
                let is_number = !digits.is_empty()
                    && digits.bytes().all(|byte| byte.is_ascii_digit())
                    && (digits == "0" || !digits.starts_with('0'))
                    && text != "-0";
                let value = match is_number && parameter["schema"]["type"] == "integer" {
                    true => serde_json::from_str(&text).unwrap(),
                    false => Value::from(text.as_str()),
                };
                let allowed = OPENAPI.check(&pointer, &value);
                assert_eq!(
                    answer.status == 200,
                    allowed.is_ok(),
                    "{name}={text} {answer:?} {allowed:?}"
                );
                if answer.status != 200 {
                    let about = format!("{name}={text} {answer:?}");
                    let detail = &answer.expect_problem(400, "invalid_query")["detail"];
                    says_what_is_expected(detail, &about);
                    let named = detail.as_str().is_some_and(|text| text.starts_with(name));
                    assert!(named, "{about}");
                }
                *(if allowed.is_ok() {
                    &mut read
                } else {
                    &mut refused
                }) += 1;
            }
        }
    }
    assert!(read > 50 && refused > 300, "{read} {refused}");
    for query in [
        "reference=%FF",
        "reference=a%C3",
        "reference=%ED%A0%80",
        "status=ACTIVE&x=%FF",
    ] {
        let answer = system.get(&format!("/reservations?{query}")).await;
        answer.expect_problem(400, "invalid_query");
    }
}

#[tokio::test]
async fn an_id_in_a_path_has_one_form() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    system
        .get(&format!("/products/{product}"))
        .await
        .expect(200);
    let mut wrong = Vec::from(["0", "+", "-"].map(|before| format!("{before}{product}")));
    wrong.extend([".0", "e0", "%20", "%00"].map(|after| format!("{product}{after}")));
    wrong.extend(["0", "-1", "%221%22", "null", "x", "9223372036854775808"].map(str::to_owned));
    for (things, code) in [
        ("products", "product_not_found"),
        ("reservations", "reservation_not_found"),
    ] {
        for wrong in &wrong {
            let answer = system.get(&format!("/{things}/{wrong}")).await;
            let problem = answer.expect_problem(404, code);
            let detail = problem["detail"].as_str().unwrap();
            let expected = "an id is a whole number from 1 to 9223372036854775807, in digits only";
            assert!(detail.ends_with(expected), "{wrong}: {detail}");
        }
        let answer = system.get(&format!("/{things}/9223372036854775807")).await;
        let problem = answer.expect_problem(404, code);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("there is no such"), "{detail}");
        assert!(!detail.contains("whole number"), "{detail}");
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
}
