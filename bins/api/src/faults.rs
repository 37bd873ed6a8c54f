//! What is wrong with a request's body, and where. A good body never gets here, so this module may parse it again.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::{Deserializer, Value};
use serde_path_to_error::{Path, Segment};

/// Most faults in one answer. Each one costs another parse of the body.
const MAX_FAULTS: usize = 10;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Fault {
    /// The field in the request's body, as a JSON pointer (RFC 6901). Empty for the body as a whole.
    pointer: String,
    /// What is wrong with it, for people.
    detail: String,
}

impl Fault {
    pub(crate) fn of(pointer: &str, detail: &str) -> Self {
        Self {
            pointer: pointer.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// All faults in one text.
pub(crate) fn detail(faults: &[Fault]) -> String {
    let texts = faults.iter().map(|fault| match fault.pointer.as_str() {
        "" => fault.detail.clone(),
        pointer => format!("{pointer}: {}", fault.detail),
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// Why this text cannot be read as a `T`. The error says why it is not JSON at all: a syntax error may follow a wrong
/// value, and then it is the problem to report.
pub(crate) fn of_body<T: DeserializeOwned>(text: &str) -> Result<Vec<Fault>, String> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    let read = serde_path_to_error::deserialize::<_, T>(&mut Deserializer::from_str(text));
    let mut faults: Vec<Fault> = read.err().map(fault).into_iter().collect();
    // serde stops at the first fault. Without the field that has it, serde finds the next one.
    let mut body = serde_json::from_str::<Value>(text).ok();
    while let (Some(body), Some(last)) = (&mut body, faults.last())
        && faults.len() < MAX_FAULTS
        && remove(body, &last.pointer)
        && let Err(error) = serde_path_to_error::deserialize::<_, T>(&*body)
    {
        let next = fault(error);
        // Only because it was removed.
        if faults.iter().any(|known| known.pointer == next.pointer) {
            break;
        }
        faults.push(next);
    }
    Ok(faults)
}

/// Removes a field of an object. Returns whether there was one: an element of an array stays, because the others would
/// get new places.
fn remove(body: &mut Value, pointer: &str) -> bool {
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        return false;
    };
    let parent = body.pointer_mut(parent).and_then(Value::as_object_mut);
    let name = name.replace("~1", "/").replace("~0", "~");
    parent.is_some_and(|parent| parent.remove(&name).is_some())
}

fn fault(error: serde_path_to_error::Error<serde_json::Error>) -> Fault {
    let mut pointer = pointer(error.path());
    let error = error.into_inner();
    let mut detail = error.to_string();
    if error.line() > 0 {
        // The pointer says where.
        let place = format!(" at line {} column {}", error.line(), error.column());
        detail.truncate(detail.trim_end_matches(&place).len());
    }
    // serde reports these two at the object that has the field.
    for (start, text) in [
        ("missing field `", "the field is missing"),
        ("duplicate field `", "the field is given twice"),
    ] {
        let name = detail
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix('`'));
        if let Some(name) = name {
            pointer = format!("{pointer}/{}", escaped(name));
            return Fault::of(&pointer, text);
        }
    }
    Fault::of(&pointer, &in_words_of_json(&detail))
}

/// Says in the words of JSON what serde says in words of Rust.
fn in_words_of_json(detail: &str) -> String {
    // What is expected is a text of this service, and what is given may be any text of the client.
    let Some((given, expected)) = detail.rsplit_once(", expected ") else {
        return match detail.ends_with("there are no fields") {
            true => "there is no such field here: expected an object without fields".to_owned(),
            false => detail.to_owned(),
        };
    };
    if given.starts_with("unknown field ") {
        let fields = expected.trim_start_matches("one of ");
        return format!("there is no such field here: expected {fields}");
    }
    let given = given
        .strip_prefix("invalid type: ")
        .or_else(|| given.strip_prefix("invalid value: "));
    let Some(given) = given else {
        return detail.to_owned();
    };
    let expected = match expected {
        "a sequence" => "an array",
        "a boolean" => "true or false",
        // Every number of the API is a whole one.
        "a JSON number" => "a whole number",
        other => other,
    };
    let given = match given.split_once(' ') {
        Some(("string", text)) => text,
        Some(("integer" | "boolean", value)) => value.trim_matches('`'),
        Some(("floating", point)) => point.trim_start_matches("point ").trim_matches('`'),
        _ if given == "sequence" => "an array",
        _ if given == "map" => "an object",
        _ => given,
    };
    format!("expected {expected}, not {given}")
}

fn pointer(path: &Path) -> String {
    let segments = path.iter().map(|segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", escaped(key)),
        Segment::Enum { variant } => format!("/{}", escaped(variant)),
        Segment::Unknown => String::new(),
    });
    segments.collect()
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde::Deserialize;

    use super::*;
    use crate::json::Object;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[expect(dead_code, reason = "only read")]
        id: inventory::ProductId,
        #[expect(dead_code, reason = "only read")]
        items: Vec<Object<Item>>,
        #[expect(dead_code, reason = "only read")]
        note: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        #[expect(dead_code, reason = "only read")]
        size: inventory::Quantity,
    }

    fn faults(text: &str) -> Vec<(String, String)> {
        let faults = of_body::<Object<Order>>(text).expect(text).into_iter();
        faults.map(|fault| (fault.pointer, fault.detail)).collect()
    }

    #[test]
    fn each_fault_has_its_place_and_says_what_is_expected() {
        let id = "expected a whole number from 1 to 9223372036854775807, not";
        for (text, pointer, detail) in [
            ("[]", "", "expected an object, not an array".to_owned()),
            ("7", "", "expected an object, not 7".to_owned()),
            (r#"{"id":"1","items":[]}"#, "/id", format!("{id} \"1\"")),
            (r#"{"id":-1,"items":[]}"#, "/id", format!("{id} -1")),
            (r#"{"id":null,"items":[]}"#, "/id", format!("{id} null")),
            (r#"{"id":1.5,"items":[]}"#, "/id", format!("{id} 1.5")),
            (
                r#"{"id":1e400,"items":[]}"#,
                "/id",
                "number out of range".to_owned(),
            ),
            (
                r#"{"id":", expected x","items":[]}"#,
                "/id",
                format!("{id} \", expected x\""),
            ),
            (
                r#"{"id":1,"items":{}}"#,
                "/items",
                "expected an array, not an object".to_owned(),
            ),
            (
                r#"{"id":1,"items":[],"note":true}"#,
                "/note",
                "expected a string, not true".to_owned(),
            ),
            (r#"{"id":1}"#, "/items", "the field is missing".to_owned()),
            (
                r#"{"id":1,"id":1,"items":[]}"#,
                "/id",
                "the field is given twice".to_owned(),
            ),
            (
                r#"{"id":1,"items":[{"size":1},{}]}"#,
                "/items/1/size",
                "the field is missing".to_owned(),
            ),
            (
                r#"{"id":1,"items":[[1]]}"#,
                "/items/0",
                "expected an object, not an array".to_owned(),
            ),
            (
                r#"{"id":1,"items":[{"size":1,"a/b~c":2}]}"#,
                "/items/0/a~1b~0c",
                "there is no such field here: expected `size`".to_owned(),
            ),
        ] {
            assert_eq!(faults(text), [(pointer.to_owned(), detail)], "{text}");
        }
    }

    #[test]
    fn a_body_has_several_faults() {
        let text = r#"{"x":1,"note":2,"items":[],"id":0}"#;
        let places: HashSet<_> = faults(text)
            .into_iter()
            .map(|(pointer, _)| pointer)
            .collect();
        assert_eq!(
            places,
            HashSet::from(["/x", "/note", "/id"].map(str::to_owned))
        );
        let many: Vec<_> = (0..50).map(|number| format!(r#""x{number}":1"#)).collect();
        assert_eq!(faults(&format!("{{{}}}", many.join(","))).len(), MAX_FAULTS);
    }

    #[test]
    fn what_is_not_json_has_no_place() {
        for text in ["", "{", r#"{"id":"x","items":"#] {
            assert!(of_body::<Object<Order>>(text).is_err(), "{text}");
        }
    }
}
