//! Settings of PostgreSQL that weaken a promise: the service works, and says so.

use serde_json::json;

use super::stage::Processes;
use crate::support::{Database, NO_RABBITMQ, Server, Service, eventually};

/// They may be read only by sessions that come later.
const WEAK: [&str; 2] = ["fsync", "full_page_writes"];

#[tokio::test]
async fn what_a_crash_could_cost_is_told_by_each_process_until_it_is_mended() {
    let server = Server::start_with(
        Service::Postgres,
        &[
            ("FLASHSALE_LOCAL_POSTGRES_ROLE", "superuser"),
            ("FLASHSALE_LOCAL_POSTGRES_OPTIONS", ""),
        ],
    );
    let database = Database::create_on(&server.url).await;
    let processes = Processes::start(database, NO_RABBITMQ.1).await;
    processes.become_ready().await;
    tells(&processes, &[]).await;
    for (number, setting) in WEAK.into_iter().enumerate() {
        processes.system.database.configure(setting, "off").await;
        tells(&processes, &WEAK[..=number]).await;
    }
    // Sessions of the service set this one themselves.
    processes
        .system
        .database
        .configure("synchronous_commit", "off")
        .await;
    for setting in WEAK {
        processes.system.database.configure(setting, "on").await;
    }
    tells(&processes, &[]).await;
    processes.stop().await;
}

/// Waits until the readiness of each process has a warning for each of these settings, and no other.
async fn tells(processes: &Processes, settings: &[&str]) {
    for (name, client) in processes.clients() {
        eventually(&format!("{name} warns of {settings:?}"), async || {
            let readiness = client.get("/readyz").await;
            let told = readiness.expect(200)["warnings"].clone();
            let told = told.as_array().cloned().unwrap_or_default();
            let begins = told.iter().zip(settings).all(|(warning, setting)| {
                let begin = format!("{setting} is off");
                warning
                    .as_str()
                    .is_some_and(|warning| warning.starts_with(&begin))
            });
            (begins && told.len() == settings.len()).then_some(json!(told))
        })
        .await;
    }
}
