//! Helpers for tests of schemas: the three processes on one database, and the database's whole content.

use std::{
    collections::{BTreeMap, HashSet},
    process::Output,
};

use futures_util::future::join_all;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::{Client, Database, Peer, System, eventually, output, test_server};

/// The schema that these programs need.
pub(super) fn needed() -> i64 {
    let files = inventory::migrate::NUMBERED.iter();
    files.map(|file| file.version).max().unwrap()
}

/// The reason on an empty database.
pub(super) fn empty_reason() -> String {
    let needed = needed();
    format!("schema is at 0, this program needs {needed}: run flashsale-api migrate")
}

/// A database without a schema, on the shared server.
pub(super) async fn empty() -> Database {
    Database::create_empty_on(&test_server("TEST_DATABASE_URL")).await
}

/// A database that `flashsale-api migrate` has migrated.
pub(super) async fn migrated() -> Database {
    let database = empty().await;
    let said = said_by_migrate(&database);
    assert!(said.starts_with("migration 1: applied\n"), "{said}");
    database
}

/// Runs `flashsale-api migrate`.
pub(super) fn migrate(database: &Database) -> Output {
    let settings = [("DATABASE_URL", &*database.url)];
    output("flashsale-api", &["migrate"], &settings)
}

/// The output of a successful `migrate`.
pub(super) fn said_by_migrate(database: &Database) -> String {
    let output = migrate(database);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every row of every table, and the names of all other objects in a database.
pub(super) async fn contents(database: &Database) -> BTreeMap<String, String> {
    let names = "select 'names', string_agg(name, ' ' order by name) from (
            select relname::text from pg_class where relnamespace = current_schema()::regnamespace
            union all
            select proname::text from pg_proc where pronamespace = current_schema()::regnamespace
        ) as names (name)";
    let tables = "select relname::text from pg_class
        where relnamespace = current_schema()::regnamespace and relkind = 'r'";
    let tables: Vec<String> = sqlx::query_scalar(tables)
        .fetch_all(&database.pool)
        .await
        .unwrap();
    let rows = tables.iter().map(|table| {
        format!("select '{table}', string_agg(t::text, ' ' order by t::text) from {table} t")
    });
    let queries: Vec<String> = rows.chain([names.to_owned()]).collect();
    let all: Vec<(String, Option<String>)> =
        sqlx::query_as(AssertSqlSafe(queries.join(" union all ")))
            .fetch_all(&database.pool)
            .await
            .unwrap();
    all.into_iter()
        .map(|(name, rows)| (name, rows.unwrap_or_default()))
        .collect()
}

/// One of each process on one database. The [`System`] is the API.
pub(super) struct Processes {
    pub(super) system: System,
    others: Vec<Peer>,
}

impl Processes {
    pub(super) async fn start(database: Database, amqp_url: &str) -> Self {
        let system = System::spawn_on(database, &[]).await;
        let mut others = Vec::new();
        for name in ["flashsale-expirer", "flashsale-relay"] {
            others.push(Peer::start(&system, name, &[("AMQP_URL", amqp_url)]).await);
        }
        Self { system, others }
    }

    pub(super) fn clients(&self) -> Vec<(&'static str, &Client)> {
        let others = self.others.iter().map(|peer| (peer.name, &**peer));
        [("flashsale-api", &*self.system)]
            .into_iter()
            .chain(others)
            .collect()
    }

    /// The value of a series in its `/metrics`.
    pub(super) async fn metric(&self, process: &str, series: &str) -> f64 {
        let mut clients = self.clients().into_iter();
        let (_, client) = clients.find(|(name, _)| *name == process).unwrap();
        client.metric(series).await
    }

    /// Each process runs, is not ready, and reports this reason.
    pub(super) async fn are_not_ready(&self, reason: &str) {
        for (name, client) in self.clients() {
            is_not_ready(name, client, reason).await;
        }
    }

    pub(super) async fn become_ready(&self) {
        for (name, client) in self.clients() {
            becomes_ready(name, client).await;
        }
    }

    /// Waits until each process has checked the schema several more times.
    pub(super) async fn look_again(&self) {
        let clients = self.clients();
        let looks = clients
            .iter()
            .map(|(name, _)| looks_again(&self.system.database, name));
        join_all(looks).await;
    }

    /// Stops them and returns their logs. None may have caused an error in PostgreSQL.
    pub(super) async fn stop(mut self) -> Vec<(&'static str, Vec<Value>)> {
        let mut logs = vec![("flashsale-api", self.system.stop().await)];
        for peer in &mut self.others {
            peer.stop().await;
            logs.push((peer.name, peer.child.entries().await));
        }
        for (name, log) in &logs {
            let missing = |entry: &&Value| entry.to_string().contains("does not exist");
            let missing = log.iter().find(missing);
            assert!(missing.is_none(), "{name}: {missing:?}");
        }
        logs
    }

    /// Stops them. Each must have logged the reason once, and once that it works.
    pub(super) async fn stop_having_waited_for(mut self, reason: &str) {
        // Each checks at its own interval.
        let works = "PostgreSQL can be used now";
        self.system.child().logs(works).await;
        for peer in &mut self.others {
            peer.child.logs(works).await;
        }
        for (name, log) in self.stop().await {
            let said = |words: &str| {
                let messages = log.iter().filter_map(|entry| entry["message"].as_str());
                messages.filter(|message| *message == words).count()
            };
            assert_eq!(said(&format!("cannot work: {reason}")), 1, "{name}");
            assert_eq!(said(works), 1, "{name}");
        }
    }
}

async fn is_not_ready(name: &str, client: &Client, reason: &str) {
    let readiness = client.get("/readyz").await.expect(503);
    assert_eq!(readiness["status"], "unavailable", "{name}");
    assert_eq!(readiness["reason"], reason, "{name}");
    assert_eq!(readiness["dependencies"]["postgres"], "down", "{name}");
    client.get("/livez").await.expect(200);
}

pub(super) async fn becomes_ready(name: &str, client: &Client) {
    let ready = eventually(&format!("{name} is ready"), async || {
        let answer = client.get("/readyz").await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(ready["status"], "ready", "{name}");
    assert_eq!(ready.get("reason"), None, "{name}");
}

/// The sessions of a process show when each last checked the schema.
async fn looks_again(database: &Database, process: &str) {
    let looks = async || -> Vec<(i32, String)> {
        sqlx::query_as(
            "select pid, query_start::text from pg_stat_activity
            where datname = current_database() and application_name = $1
                and query ~ '^-- (health|migrate: is the schema from before)'",
        )
        .bind(process)
        .fetch_all(&database.pool)
        .await
        .unwrap()
    };
    let mut seen: HashSet<_> = looks().await.into_iter().collect();
    let before = seen.len();
    eventually(&format!("looks of {process}"), async || {
        seen.extend(looks().await);
        (seen.len() >= before + 3).then_some(())
    })
    .await;
}
