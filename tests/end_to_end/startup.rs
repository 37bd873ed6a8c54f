//! What a program says when a server cannot be reached: the address, and why.

use std::net::TcpListener;

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::{Log, NO_REDIS, start, start_with};

/// A URL that leads to no PostgreSQL, the address in it, and what is said about the address.
type Nowhere = (String, String, &'static str);

/// The listener accepts connections of one of them, and never answers.
fn nowhere() -> (TcpListener, Vec<Nowhere>) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let at = |address: String, why| {
        let url = format!("postgres://nobody:secret@{address}/nothing");
        (url, address, why)
    };
    let folder = "/no/such/folder";
    let socket = format!("postgres:///nothing?host={folder}");
    let nowhere = vec![
        at("127.0.0.1:1".to_owned(), "Connection refused"),
        at("localhost:1".to_owned(), "Connection refused"),
        at(format!("127.0.0.1:{port}"), "no answer within"),
        (socket, folder.to_owned(), "No such file"),
    ];
    (silent, nowhere)
}

#[tokio::test]
async fn each_process_names_the_address_at_which_postgresql_does_not_answer() {
    let (_silent, nowhere) = nowhere();
    let mut said = Vec::new();
    for name in ["flashsale-api", "flashsale-expirer", "flashsale-relay"] {
        for place in &nowhere {
            said.push(names_the_address(name, place));
        }
    }
    join_all(said).await;
}

async fn names_the_address(name: &str, (url, address, why): &Nowhere) {
    let settings = [
        NO_REDIS,
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("DATABASE_URL", url),
        ("AMQP_URL", "amqp://nobody:nothing@127.0.0.1:1/%2f"),
    ];
    let mut process = start(name, &settings);
    let entry = process.logs("cannot work").await;
    assert_eq!(
        entry["message"], "cannot work: PostgreSQL does not answer",
        "{name} {url}"
    );
    let cause = entry["cause"].as_str().unwrap();
    // A busy machine may need longer than the time limit for any answer.
    let says = cause.contains(why) || cause.contains("no answer within");
    let names = says && cause.starts_with(&format!("{address}: "));
    assert!(names, "{name} {url}: {cause}");
    process.interrupt();
    assert!(process.ends().await.success(), "{name} {url}");
    assert!(!process.all_it_said().await.contains("secret"));
}

#[tokio::test]
async fn migrate_names_the_address_at_which_postgresql_does_not_answer() {
    let (_silent, nowhere) = nowhere();
    join_all(nowhere.iter().map(async |(url, address, why)| {
        let elsewhere = ("DATABASE_URL", "postgres://nobody@127.0.0.1:2/nothing");
        let option = format!("--database-url={url}");
        let ways = [
            (vec!["migrate"], ("DATABASE_URL", url.as_str())),
            // The option counts, before and after the command.
            (vec!["migrate", &option], elsewhere),
            (vec![&*option, "migrate"], elsewhere),
        ];
        join_all(ways.iter().map(async |(arguments, setting)| {
            let mut migrate = start_with("flashsale-api", arguments, &[*setting], Log::Shown);
            assert!(!migrate.ends().await.success());
            let said = migrate.entries().await;
            let said: Vec<&str> = said.iter().filter_map(message).collect();
            let start = format!("cannot connect to PostgreSQL at {address}: ");
            let names = said
                .iter()
                .any(|line| line.starts_with(&start) && line.contains(why));
            assert!(names, "{arguments:?}: {said:?}");
            assert!(!said.concat().contains("secret"), "{said:?}");
        }))
        .await;
    }))
    .await;
}

#[tokio::test]
async fn redis_and_rabbitmq_are_named_by_their_addresses_too() {
    let settings = [
        ("LISTEN_ADDR", "127.0.0.1:0"),
        (
            "DATABASE_URL",
            "postgres://nobody:secret@127.0.0.1:1/nothing",
        ),
        ("REDIS_URL", "redis://:secret@127.0.0.1:2/0"),
        ("AMQP_URL", "amqp://nobody:secret@127.0.0.1:3/%2f"),
    ];
    for (name, words, field) in [
        ("flashsale-api", "Redis does not accept", "reason"),
        ("flashsale-expirer", "Redis does not accept", "reason"),
        ("flashsale-expirer", "cannot listen to Redis", "error"),
        ("flashsale-relay", "cannot listen to Redis", "error"),
        (
            "flashsale-relay",
            "RabbitMQ: 127.0.0.1:3: cannot connect: ",
            "",
        ),
    ] {
        let mut process = start(name, &settings);
        let entry = process.logs(words).await;
        if !field.is_empty() {
            let why = entry[field].as_str().unwrap();
            assert!(why.starts_with("127.0.0.1:2: "), "{name} {words}: {why}");
        }
        process.kill();
        assert!(!process.all_it_said().await.contains("secret"));
    }
}

fn message(entry: &Value) -> Option<&str> {
    entry["message"].as_str()
}
