//! The README's examples, run as they stand there.
//!
//! A block opened with ` ```sh test ` is run by bash, in the order of the page, against a service that was
//! just started. A ` ```json ` block right behind it is what its last line of output must be; only times may
//! differ.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::support::System;

/// The address that the README speaks of.
const ADDRESS: &str = "http://127.0.0.1:8080";

#[derive(Debug, PartialEq)]
struct Example {
    commands: String,
    answer: Option<String>,
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim_end() != "```sh test" {
            continue;
        }
        let commands = block(&mut lines);
        let answer = lines
            .next_if(|line| line.trim_end() == "```json")
            .map(|_| block(&mut lines));
        examples.push(Example { commands, answer });
    }
    examples
}

/// The lines up to the fence that closes a block.
fn block<'a>(lines: &mut impl Iterator<Item = &'a str>) -> String {
    let inside: Vec<&str> = lines.take_while(|line| line.trim_end() != "```").collect();
    inside.join("\n")
}

/// Every time becomes the same: an example cannot know them.
fn timeless(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields {
                *field = if name.ends_with("_at") && field.is_string() {
                    Value::from("some time")
                } else {
                    timeless(field.take())
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = timeless(item.take());
            }
        }
        _ => {}
    }
    value
}

fn run(commands: &str) -> String {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .output()
        .expect("bash");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}\n{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(text: &str, of: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?} of\n{of}"))
}

#[tokio::test]
async fn the_examples_work_in_the_order_of_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let page = std::fs::read_to_string(path).unwrap();
    let examples = examples(&page);
    assert!(examples.len() > 3, "the README has lost its examples");
    assert!(examples.iter().any(|example| example.answer.is_some()));
    let system = System::spawn(&[]).await;
    for Example { commands, answer } in examples {
        let commands = commands.replace(ADDRESS, system.base());
        let output = run(&commands);
        if let Some(answer) = answer {
            let last = output.lines().last().unwrap_or_default();
            let given = timeless(json(last, &commands));
            assert_eq!(given, timeless(json(&answer, "README.md")), "{commands}");
        }
    }
}

#[test]
fn examples_are_found_in_a_page() {
    let page = "text\n```sh\nnot this\n```\n```sh test\na\nb\n```\n```json\n{}\n```\n\
        ```sh test\nc\n```\n\n```json\nnot an answer\n```\n";
    let example = |commands: &str, answer: Option<&str>| Example {
        commands: commands.to_owned(),
        answer: answer.map(str::to_owned),
    };
    let wanted = [example("a\nb", Some("{}")), example("c", None)];
    assert_eq!(examples(page), wanted);
}
