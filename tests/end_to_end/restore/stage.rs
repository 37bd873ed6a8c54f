//! The command `restored`.

use std::{fs, process::Output};

use serde_json::Value;

use crate::support::{Folder, System, output, test_server};

/// A new id is above this after one restore, and above twice this after two.
pub(super) const GAP: i64 = 10_000_000_000;

/// Runs `flashsale-api restored` on the system's database and Redis keys, with these lines of events.
pub(super) fn restored(system: &System, events: &[String]) -> Output {
    let folder = Folder::new();
    let path = folder.path().join("events.ndjson");
    fs::write(&path, events.join("\n")).unwrap();
    let settings = [
        ("DATABASE_URL", &*system.database.url),
        ("REDIS_URL", &test_server("TEST_REDIS_URL")),
        ("REDIS_KEY_PREFIX", system.redis_prefix()),
    ];
    let path = path.to_str().unwrap();
    output("flashsale-api", &["restored", "--events", path], &settings)
}

/// The events that it printed.
pub(super) fn lost(output: &Output) -> Vec<Value> {
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What it said to people.
pub(super) fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
