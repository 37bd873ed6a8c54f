//! Checks requests and answers against the OpenAPI and AsyncAPI files in `docs`.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Answer;

/// `docs/openapi.json`.
pub(crate) static OPENAPI: LazyLock<Contract> = LazyLock::new(|| Contract::read("openapi.json"));

/// `docs/asyncapi.json`.
pub(crate) static ASYNCAPI: LazyLock<Contract> = LazyLock::new(|| Contract::read("asyncapi.json"));

/// A document with schemas.
pub(crate) struct Contract {
    pub(crate) text: String,
    pub(crate) document: Value,
    /// The same document with `additionalProperties: false`. Clients must tolerate unknown fields, but a service that
    /// sends them has an outdated document.
    closed: Value,
    /// Compiled validators, by the pointer to their schema. Compiled on first use.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Contract {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs")
            .join(name);
        let text = std::fs::read_to_string(path).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let mut closed = document.clone();
        close(&mut closed);
        Self {
            text,
            document,
            closed,
            validators: Mutex::default(),
        }
    }

    /// Checks a value against the schema at this JSON pointer. The error is the reason.
    pub(crate) fn check(&self, pointer: &str, value: &Value) -> Result<(), String> {
        let validator = {
            let mut validators = self.validators.lock().unwrap();
            let known = validators.entry(pointer.to_owned());
            known
                .or_insert_with(|| Arc::new(self.validator(pointer)))
                .clone()
        };
        let errors = validator.iter_errors(value);
        let errors: Vec<String> = errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors.join("; "))
        }
    }

    fn validator(&self, pointer: &str) -> Validator {
        let mut schema = self.closed.pointer(pointer).expect(pointer).clone();
        // References in the schema start at the root of the document.
        schema["components"] = self.closed["components"].clone();
        jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap()
    }
}

/// Forbids unnamed properties in each schema that names some.
fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let names_fields = fields.get("properties").is_some_and(Value::is_object);
            if names_fields && !fields.contains_key("additionalProperties") {
                fields.insert("unevaluatedProperties".to_owned(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// A request.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    /// Its Idempotency-Key, if there is exactly one.
    key: Option<String>,
}

impl Asked {
    pub(crate) fn new(request: &reqwest::Request) -> Self {
        let body = request.body().and_then(|body| body.as_bytes());
        let mut keys = request.headers().get_all("idempotency-key").iter();
        let key = keys.next().filter(|_| keys.next().is_none());
        Self {
            key: key.and_then(|key| Some(key.to_str().ok()?.to_owned())),
            method: request.method().clone(),
            path: request.url().path().to_owned(),
            body: body.and_then(|bytes| serde_json::from_slice(bytes).ok()),
        }
    }

    /// Checks that the document lists the answer for this operation.
    #[track_caller]
    pub(crate) fn check(&self, answer: &Answer) {
        if let Err(reason) = self.judge(answer) {
            panic!(
                "not as docs/openapi.json says: {reason}\n{} {} {:?}\n{} {}",
                self.method, self.path, self.body, answer.status, answer.text
            );
        }
    }

    fn judge(&self, answer: &Answer) -> Result<(), String> {
        let Some((template, item)) = operations_at(&self.path) else {
            return is_problem(answer, "not_found");
        };
        let method = if self.method == Method::HEAD {
            &Method::GET
        } else {
            &self.method
        };
        let method = method.as_str().to_lowercase();
        let Some(operation) = item.get(&method) else {
            return is_problem(answer, "method_not_allowed");
        };
        let status = answer.status.as_str();
        let documented = operation["responses"]
            .get(status)
            .ok_or("a status that it does not list")?;
        let pointer = format!("/paths/{}/{method}", escaped(template));
        let headers = &documented["headers"];
        for name in [
            "Idempotency-Replayed",
            "Link",
            "Location",
            "Retry-After",
            "X-Request-Id",
        ] {
            if !answer.header(name).is_empty() && headers.get(name).is_none() {
                return Err(format!("a header {name}"));
            }
        }
        for (name, header) in headers.as_object().unwrap_or(&Map::new()) {
            let inline = format!("{pointer}/responses/{status}/headers/{name}");
            let shared = header["$ref"].as_str().map(|found| &found[1..]);
            let at = shared.unwrap_or(&inline);
            let header = OPENAPI.document.pointer(at).ok_or("a dead reference")?;
            let value = answer.header(name);
            match (value.is_empty(), header["required"] == true) {
                (true, true) => return Err(format!("no header {name}")),
                (true, false) => continue,
                (false, _) => {}
            }
            let value: Value = match header["schema"]["type"] == "integer" {
                true => serde_json::from_str(value).map_err(|error| format!("{name}: {error}"))?,
                false => value.into(),
            };
            OPENAPI.check(&format!("{at}/schema"), &value)?;
        }
        if self.method == Method::HEAD || answer.status == 304 {
            return Ok(());
        }
        let given = answer.header("content-type");
        let media_type = given.split(';').next().unwrap_or_default();
        documented["content"]
            .get(media_type)
            .ok_or_else(|| format!("a body of {given:?}"))?;
        let body = match media_type.ends_with("json") {
            true => answer.json(),
            false => answer.text.as_str().into(),
        };
        let content = format!(
            "{pointer}/responses/{status}/content/{}",
            escaped(media_type)
        );
        OPENAPI.check(&format!("{content}/schema"), &body)?;
        is_in_utc(&body)?;
        // The response's examples are the codes that the operation can answer with.
        if let Some(examples) = documented["content"][media_type]["examples"].as_object() {
            let code = body["code"].as_str().unwrap_or_default();
            if !examples.contains_key(code) {
                return Err(format!("the code {code}"));
            }
        }
        self.judge_key(answer, operation, &pointer)?;
        // A successful request must match the request schema.
        match &self.body {
            Some(body) if answer.status.is_success() && operation.get("requestBody").is_some() => {
                let schema = format!("{pointer}/requestBody/content/application~1json/schema");
                OPENAPI
                    .check(&schema, body)
                    .map_err(|reason| format!("the request: {reason}"))
            }
            _ => Ok(()),
        }
    }

    /// An accepted key must match the schema, and a refused key must not.
    fn judge_key(&self, answer: &Answer, operation: &Value, pointer: &str) -> Result<(), String> {
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        let number = parameters.position(|parameter| parameter["name"] == "Idempotency-Key");
        let (Some(key), Some(number)) = (&self.key, number) else {
            return Ok(());
        };
        let schema = format!("{pointer}/parameters/{number}/schema");
        let valid = OPENAPI.check(&schema, &key.as_str().into());
        if answer.status.is_success() {
            return valid.map_err(|reason| format!("the key: {reason}"));
        }
        match answer.json()["code"] == "idempotency_key_invalid" && valid.is_ok() {
            true => Err(format!("it takes the key {key}")),
            false => Ok(()),
        }
    }
}

/// The path in the document for a request. Literal paths come before paths with parameters.
fn operations_at(path: &str) -> Option<(&'static str, &'static Value)> {
    let paths = OPENAPI.document["paths"].as_object().unwrap();
    let literal = paths.get_key_value(path);
    let found = literal.or_else(|| {
        paths.iter().find(|(template, _)| {
            let (template, path) = (template.split('/'), path.split('/'));
            template.clone().count() == path.clone().count()
                && template.zip(path).all(|(wanted, given)| {
                    wanted == given || (wanted.starts_with('{') && !given.is_empty())
                })
        })
    });
    found.map(|(template, item)| (template.as_str(), item))
}

/// Checks that every time is in UTC, which the schema does not say in a form for programs.
fn is_in_utc(value: &Value) -> Result<(), String> {
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, field)| match field {
            Value::String(time) if name.ends_with("_at") && !time.ends_with('Z') => {
                Err(format!("{name} is {time}, which is not in UTC"))
            }
            // Shown as it is stored, by PostgreSQL.
            _ if name == "payload" => Ok(()),
            _ => is_in_utc(field),
        }),
        Value::Array(items) => items.iter().try_for_each(is_in_utc),
        _ => Ok(()),
    }
}

fn is_problem(answer: &Answer, code: &str) -> Result<(), String> {
    // The answer to a HEAD has no body.
    let problem = if answer.text.is_empty() {
        json!({})
    } else {
        answer.json()
    };
    match problem["code"] == code || problem == json!({}) {
        true => Ok(()),
        false => Err(format!("an operation that it does not have, and no {code}")),
    }
}

/// A name, escaped for a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
