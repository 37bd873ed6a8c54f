//! `.env.example` lists every setting of the three processes with its default.

use std::{collections::BTreeSet, path::Path};

use clap::{Command, CommandFactory as _};

use crate::support::{NO_RABBITMQ, Peer, System, eventually, output, start};

type Setting = (String, String);

/// The settings of a process, from its clap definition.
fn settings(command: &Command) -> BTreeSet<Setting> {
    let mut settings = BTreeSet::new();
    for arg in command.get_arguments() {
        let name = arg
            .get_env()
            .unwrap_or_else(|| panic!("--{} cannot be set in the environment", arg.get_id()));
        let defaults: Vec<_> = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        settings.insert((name.to_string_lossy().into_owned(), defaults.join(",")));
    }
    settings
}

/// The lines `#NAME=default`. Prose has a space after the `#`.
fn documented() -> Vec<Setting> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.env.example");
    let text = std::fs::read_to_string(path).expect(".env.example");
    let mut settings = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let line = line.strip_prefix('#').expect(line);
        if let Some((name, default)) = line.split_once('=')
            && !line.starts_with(' ')
        {
            settings.push((name.to_owned(), default.to_owned()));
        }
    }
    settings
}

#[test]
fn env_example_has_every_setting_and_its_default() {
    let processes = [
        flashsale_api::Args::command(),
        flashsale_expirer::Args::command(),
        flashsale_relay::Args::command(),
    ];
    let wanted: BTreeSet<Setting> = processes.iter().flat_map(settings).collect();
    let documented = documented();
    let unique: BTreeSet<Setting> = documented.iter().cloned().collect();
    assert_eq!(
        unique.len(),
        documented.len(),
        "a setting is documented twice"
    );
    let missing: Vec<_> = wanted.difference(&unique).collect();
    let surplus: Vec<_> = unique.difference(&wanted).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:?}, surplus: {surplus:?}"
    );
}

#[tokio::test]
async fn a_bad_setting_is_named_and_ends_the_process() {
    for (process, name, value) in [
        ("flashsale-api", "HOLD_SECONDS", "0"),
        ("flashsale-api", "HOLD_SECONDS", "five"),
        ("flashsale-api", "MAX_HOLD_SECONDS", "0"),
        ("flashsale-api", "OUTBOX_EVENTS", "ReservationLost"),
        ("flashsale-expirer", "OUTBOX_EVENTS", "ReservationExpired,"),
        ("flashsale-api", "LISTEN_ADDR", "8080"),
        ("flashsale-api", "ADMIN_TOKEN", "sécret"),
        ("flashsale-api", "ADMIN_TOKEN", "two\nsecrets"),
        ("flashsale-api", "BATCH_MAX_REQUESTS", "0"),
        ("flashsale-api", "LANE_WAIT_MILLISECONDS", "-1"),
        ("flashsale-api", "DRAIN_SECONDS", "-1"),
        ("flashsale-api", "HTTP_MAX_CONNECTIONS", "0"),
        ("flashsale-api", "HTTP_HEAD_MAX_BYTES", "100"),
        ("flashsale-api", "HTTP_BODY_SECONDS", "0"),
        (
            "flashsale-api",
            "DATABASE_URL",
            "postgres://root:secret@127.0.0.1:port/x",
        ),
        (
            "flashsale-api",
            "DATABASE_URL",
            "postgres://root:secret@127.0.0.1/x?sslmod=require",
        ),
        (
            "flashsale-relay",
            "DATABASE_URL",
            "postgres://root:secret@a,b/x?target_session_attrs=any",
        ),
        ("flashsale-api", "REDIS_URL", "127.0.0.1:secret"),
        (
            "flashsale-expirer",
            "REDIS_URL",
            "redis://u:secret@127.0.0.1/0?timeout=1",
        ),
        (
            "flashsale-api",
            "REDIS_URL",
            "redis+sentinel://u:secret@127.0.0.1",
        ),
        (
            "flashsale-relay",
            "AMQP_URL",
            "amqp://guest:secret@127.0.0.1/%2f?verify=verify_none",
        ),
        ("flashsale-api", "RUST_LOG", "=,="),
        ("flashsale-api", "LOG_FORMAT", "xml"),
        ("flashsale-expirer", "EXPIRE_BATCH_ROWS", "0"),
        ("flashsale-expirer", "IDEMPOTENCY_HOURS", "-1"),
        ("flashsale-expirer", "DATABASE_URL", "secret"),
        ("flashsale-relay", "RELAY_BATCH_ROWS", "x"),
        (
            "flashsale-relay",
            "AMQP_URL",
            "http://guest:secret@127.0.0.1",
        ),
    ] {
        let mut process = start(process, &[("LISTEN_ADDR", "127.0.0.1:0"), (name, value)]);
        assert!(!process.ends().await.success(), "{name}={value} is taken");
        let said = process.all_it_said().await;
        let option = name.to_lowercase().replace('_', "-");
        assert!(
            said.contains(name) || said.contains(&option),
            "{name}={value}: {said}"
        );
        assert!(!said.contains("secret"), "{said}");
    }
}

/// The names in a service's `environment`, and in the settings that all three have.
fn passed_on(compose: &str, service: &str) -> BTreeSet<String> {
    let block = |head: &str| {
        let (_, block) = compose.split_once(head).expect(head);
        let lines = block.lines().skip(1);
        // Up to the next service or the next part of the file.
        let within =
            |line: &&str| line.is_empty() || line.starts_with("    ") || head.starts_with("x-");
        lines.take_while(within).collect::<Vec<_>>()
    };
    let common = block("x-settings: &settings");
    let common = common.into_iter().take_while(|line| !line.is_empty());
    let own = block(&format!("\n  {service}:\n"));
    let names = common.chain(own).filter_map(|line| {
        let (name, _) = line.trim().split_once(':')?;
        let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
        (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
    });
    names.collect()
}

/// A setting that somebody writes into `.env` must reach the container.
#[test]
fn docker_compose_passes_every_setting_on() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker-compose.yml");
    let compose = std::fs::read_to_string(path).expect("docker-compose.yml");
    for (service, command) in [
        ("api", flashsale_api::Args::command()),
        ("expirer", flashsale_expirer::Args::command()),
        ("relay", flashsale_relay::Args::command()),
    ] {
        let wanted: BTreeSet<String> = settings(&command)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(passed_on(&compose, service), wanted, "{service}");
    }
}

/// Where Docker Hub cannot be reached, each server's image can be another one.
#[test]
fn docker_compose_takes_the_images_of_the_servers_from_settings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = |file: &str| std::fs::read_to_string(root.join(file)).expect(file);
    let (compose, operating) = (text("docker-compose.yml"), text("docs/operating.md"));
    let images = compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("image: "));
    let mut settings = 0;
    // Our own is built.
    for image in images.filter(|image| *image != "flashsale:dev") {
        let named = image.strip_prefix("${").and_then(|of| of.split_once(":-"));
        let (name, _) = named.expect(image);
        assert!(operating.contains(&format!("`{name}`")), "{name}");
        settings += 1;
    }
    assert_eq!(settings, 3);
}

/// The health check of containers. A process that is not ready is not healthy.
#[tokio::test]
async fn each_process_says_whether_it_is_healthy() {
    let system = System::spawn(&[]).await;
    let expirer = Peer::expirer(&system, &[]).await;
    let relay = Peer::relay(&system, NO_RABBITMQ.1, &[]).await;
    for (name, client) in [
        ("flashsale-api", &*system),
        ("flashsale-expirer", &*expirer),
        ("flashsale-relay", &*relay),
    ] {
        let healthy = || output(name, &["healthy"], &[("LISTEN_ADDR", client.address())]);
        eventually(name, async || healthy().status.success().then_some(())).await;
    }
    system
        .database
        .execute("alter table schema_version rename to away")
        .await;
    for (name, client) in [
        ("flashsale-api", &*system),
        ("flashsale-expirer", &*expirer),
        ("flashsale-relay", &*relay),
    ] {
        let unhealthy = output(name, &["healthy"], &[("LISTEN_ADDR", client.address())]);
        let said = String::from_utf8(unhealthy.stderr).unwrap();
        assert!(!unhealthy.status.success(), "{name}");
        assert!(said.contains("run flashsale-api migrate"), "{name}: {said}");
    }
    let nobody = output(
        "flashsale-api",
        &["healthy"],
        &[("LISTEN_ADDR", "127.0.0.1:1")],
    );
    assert!(!nobody.status.success());
}
