//! The OpenAPI and AsyncAPI files: generated from the code, complete, and consistent. All other tests check their
//! answers and events against these files.

use std::collections::{BTreeSet, HashSet};

use reqwest::Method;
use serde_json::{Map, Value};

use crate::support::{ASYNCAPI, OPENAPI, System};

#[test]
fn the_files_are_what_the_code_says() {
    for (contract, code, process, name) in [
        (
            &*OPENAPI,
            flashsale_api::openapi(),
            "flashsale-api",
            "openapi",
        ),
        (
            &*ASYNCAPI,
            flashsale_relay::asyncapi(),
            "flashsale-relay",
            "asyncapi",
        ),
    ] {
        assert!(
            contract.text == format!("{code:#}\n"),
            "docs/{name}.json is out of date; look at what changes: cargo run -p {process} -- {name} > docs/{name}.json"
        );
    }
}

#[tokio::test]
async fn they_are_served_as_they_are() {
    let system = System::start().await;
    assert_eq!(system.get("/openapi.json").await.json(), OPENAPI.document);
    assert_eq!(system.get("/asyncapi.json").await.json(), ASYNCAPI.document);
}

#[tokio::test]
async fn the_page_shows_everything_and_asks_nobody_else() {
    let system = System::with(&[("ADMIN_TOKEN", "secret")]).await;
    let page = system.get("/docs").await;
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        ),
        "{policy}"
    );
    for (_, _, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        assert!(
            page.text.contains(&format!(r#"<article id="{id}">"#)),
            "{id}"
        );
    }
    let components = &OPENAPI.document["components"];
    for (prefix, names) in [
        ("problem", &components["examples"]),
        ("schema", &components["schemas"]),
        ("event", &ASYNCAPI.document["components"]["messages"]),
    ] {
        for name in names.as_object().unwrap().keys() {
            assert!(
                page.text.contains(&format!(r#"id="{prefix}-{name}""#)),
                "{name}"
            );
        }
    }
    // Every link leads to the page itself or to this host, and so does every script.
    let links_of = |attribute: &str| {
        let rests = page.text.split(attribute).skip(1);
        let links = rests.map(|rest| rest.split('"').next().unwrap());
        links.collect::<BTreeSet<&str>>()
    };
    let scripts = links_of(r#" src=""#);
    assert_eq!(page.text.matches("<script").count(), scripts.len());
    for link in links_of(r#" href=""#).union(&scripts) {
        match link.strip_prefix('#') {
            Some(id) => assert!(page.text.contains(&format!(r#"id="{id}""#)), "{link}"),
            None => assert_eq!(system.get(link).await.status, 200, "{link}"),
        }
    }
    // All of it is small enough for a phone.
    let mut bytes = page.text.len();
    for name in [
        "console.js",
        "copy.js",
        "docs.js",
        "request.js",
        "search.js",
        "style.css",
    ] {
        let file = system.get(&format!("/docs/{name}")).await;
        assert_eq!(file.status, 200, "{name}");
        for foreign in ["http:", "https:", "@import", "url("] {
            assert!(!file.text.contains(foreign), "{name}: {foreign}");
        }
        bytes += file.text.len();
    }
    assert!(bytes < 300_000, "{bytes} bytes");
    system
        .get("/docs/lost.js")
        .await
        .expect_problem(404, "not_found");
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_one() {
    for contract in [&*OPENAPI, &*ASYNCAPI] {
        let mut references = Vec::new();
        collect_references(&contract.document, &mut references);
        assert!(references.len() > 20);
        for reference in references {
            let target = contract.document.pointer(reference.trim_start_matches('#'));
            assert!(target.is_some(), "{reference}");
        }
        for (name, schema) in map(&contract.document["components"]["schemas"]) {
            assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}");
        }
    }
}

#[test]
fn operations_have_names_of_their_own_and_all_their_parameters() {
    let mut ids = HashSet::new();
    for (path, method, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} is there twice");
        let parameters = operation["parameters"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let in_path = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path");
        let in_path: Vec<_> = in_path
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let wanted = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(in_path, wanted.collect::<Vec<_>>(), "{method} {path}");
        let tag = &operation["tags"][0];
        let tags = OPENAPI.document["tags"].as_array().unwrap();
        assert!(tags.iter().any(|known| known["name"] == *tag), "{tag}");
    }
}

#[test]
fn every_example_is_as_its_schema_says() {
    let codes = &OPENAPI.document["components"]["schemas"]["Code"]["enum"];
    let examples = map(&OPENAPI.document["components"]["examples"]);
    assert_eq!(*codes, examples.keys().cloned().collect::<Value>());
    for (code, example) in examples {
        OPENAPI
            .check("/components/schemas/Problem", &example["value"])
            .expect(code);
        assert_eq!(example["value"]["code"], code.as_str());
    }
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    let mut shown = 0;
    for (path, method, operation) in operations() {
        let answers = map(&operation["responses"]).iter();
        let bodies = answers
            .map(|(status, answer)| (format!("responses/{status}"), answer))
            .chain([("requestBody".to_owned(), &operation["requestBody"])]);
        for (part, body) in bodies {
            for (media_type, content) in body["content"].as_object().into_iter().flatten() {
                let Some(example) = content.get("example") else {
                    continue;
                };
                let content = format!("{part}/content/{}", escaped(media_type));
                let schema = format!("/paths/{}/{method}/{content}/schema", escaped(path));
                OPENAPI.check(&schema, example).expect(&schema);
                shown += 1;
            }
        }
    }
    assert!(shown > 30, "only {shown} examples");
    for (name, message) in map(&ASYNCAPI.document["components"]["messages"]) {
        let payload = format!("/components/messages/{name}/payload");
        ASYNCAPI
            .check(&payload, &message["examples"][0]["payload"])
            .expect(name);
    }
}

/// The test client also checks successful requests against the request schema.
#[tokio::test]
async fn every_example_of_a_body_is_understood() {
    let system = System::start().await;
    system.create_product(10).await;
    let mut sent = 0;
    for (path, method, operation) in operations() {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let Some(reference) = schema["$ref"].as_str() else {
            continue;
        };
        let schema = OPENAPI
            .document
            .pointer(reference.trim_start_matches('#'))
            .unwrap();
        let fields = map(&schema["properties"]).iter();
        let body: Value = fields
            .filter_map(|(name, field)| Some((name.clone(), field.pointer("/examples/0")?.clone())))
            .collect();
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let path = path.replace("{id}", "1");
        let answer = system.admin_json(method, &path, &body).await;
        assert!(
            answer.status.is_success() || answer.status == 409,
            "{path} {body}: {}",
            answer.text
        );
        sent += 1;
    }
    assert!(sent > 5);
}

#[tokio::test]
async fn every_parameter_of_a_query_is_known() {
    let system = System::start().await;
    let product = system.create_product(1).await.to_string();
    let mut asked = 0;
    for (path, _, operation) in operations() {
        let path = path.replace("{id}", &product);
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] != "query" {
                continue;
            }
            let value = match parameter["name"].as_str().unwrap() {
                "status" if path == "/waitlist" => "WAITING",
                "status" => "ACTIVE",
                "order" => "newest",
                _ => "1",
            };
            let query = format!("{path}?{}={value}", parameter["name"].as_str().unwrap());
            system.get(&query).await.expect(200);
            asked += 1;
        }
    }
    assert_eq!(asked, 19);
}

/// Every operation: path, method, description.
pub(super) fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = map(&OPENAPI.document["paths"]).iter();
    paths.flat_map(|(path, item)| {
        map(item)
            .iter()
            .map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn map(value: &Value) -> &Map<String, Value> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("no object: {value}"))
}

fn collect_references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields
                .values()
                .for_each(|field| collect_references(field, found));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_references(item, found)),
        _ => {}
    }
}
