//! Parameters beside their schemas: whatever a schema allows is read, and whatever it forbids is refused.

use std::collections::BTreeSet;

use reqwest::{Method, Url};
use serde_json::Value;

use super::{
    documents::operations,
    edges::{VALUES, around_limits, good_body, says_what_is_expected},
};
use crate::support::{Answer, OPENAPI, System};

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

/// A parameter that may stand in the components, and the pointer to its schema.
fn resolved(parameter: &Value, pointer: String) -> (&Value, String) {
    match parameter["$ref"].as_str() {
        None => (parameter, format!("{pointer}/schema")),
        Some(reference) => {
            let pointer = reference.trim_start_matches('#');
            (
                OPENAPI.document.pointer(pointer).unwrap(),
                format!("{pointer}/schema"),
            )
        }
    }
}

/// Headers that have no wrong values: an unknown tag or event is another one than the client's.
const TAKES_ANY: [&str; 2] = ["If-None-Match", "Last-Event-ID"];

/// Texts that a header can have. A receiver removes spaces around them (RFC 9110, section 5.5).
fn header_texts() -> BTreeSet<String> {
    let mut texts: BTreeSet<String> = VALUES
        .iter()
        .flat_map(|text| [text.trim_matches('"').to_owned(), (*text).to_owned()])
        .filter(|text| text.is_ascii() && text.trim() == text)
        .collect();
    for length in [1, 127, 128, 129, 254, 255, 256, 300] {
        for character in ["k", "!", "~", "\\", "\"", "\\\"", "\\\\"] {
            let text = character.repeat(length);
            texts.extend([format!("\"{text}\""), text]);
        }
    }
    texts.extend(
        [
            "", "a b", "\"a b\"", "\"a", "a\"", "\"a\"b", "a\tb", "\"\\a\"", "\"\\\"", "k,k",
            "k;x=1",
        ]
        .map(str::to_owned),
    );
    texts
}

#[tokio::test]
async fn a_header_is_read_exactly_if_its_schema_allows_it() {
    let system = System::start().await;
    let product = system.create_product(1).await.to_string();
    let texts = header_texts();
    let (mut names, mut read, mut refused) = (BTreeSet::new(), 0, 0);
    for (path, method, operation) in operations() {
        let parameters = operation["parameters"].as_array();
        for (number, parameter) in parameters.into_iter().flatten().enumerate() {
            let place = path.replace('/', "~1");
            let pointer = format!("/paths/{place}/{method}/parameters/{number}");
            let (parameter, pointer) = resolved(parameter, pointer);
            let name = parameter["name"].as_str().unwrap();
            if parameter["in"] != "header" || TAKES_ANY.contains(&name) {
                continue;
            }
            names.insert(name);
            // Every route has this one. One of them is enough for all values.
            if name == "X-Request-Id" && path != "/products" {
                continue;
            }
            let body = operation["requestBody"]["content"].is_object();
            let body = body.then(|| good_body(operation["operationId"].as_str().unwrap()));
            for text in &texts {
                let method: Method = method.to_uppercase().parse().unwrap();
                let request = system.request(method, &path.replace("{id}", &product));
                let request = request.header(name, text);
                let answer = Answer::to(match &body {
                    Some(body) => request.json(body),
                    None => request,
                });
                let answer = answer.await;
                let about = format!("{path} {name}: {text} {answer:?}");
                assert!(answer.status.as_u16() < 500, "{about}");
                let is_read = match name {
                    "Idempotency-Key" => !answer.text.contains("idempotency_key_invalid"),
                    // An invalid one is ignored.
                    "X-Request-Id" => !text.is_empty() && answer.header("x-request-id") == text,
                    other => panic!("a header that this test does not know: {other}"),
                };
                let allowed = OPENAPI.check(&pointer, &text.as_str().into());
                assert_eq!(is_read, allowed.is_ok(), "{about} {allowed:?}");
                *(if is_read { &mut read } else { &mut refused }) += 1;
            }
        }
    }
    assert_eq!(names, BTreeSet::from(["Idempotency-Key", "X-Request-Id"]));
    assert!(read > 500 && refused > 500, "{read} {refused}");
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
        ("waitlist", "waitlist_entry_not_found"),
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
