//! A recovery to a point in time, in the middle of a sale.

use std::collections::HashSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::{GAP, lost, restored, said};
use crate::support::{
    Answer, Client, Database, Peer, Redis, Server, Service, System, eventually, id, test_server,
};

/// A server with an archive, and a role that may back it up.
fn archived() -> Server {
    Server::start_with(
        Service::Postgres,
        &[
            ("FLASHSALE_LOCAL_POSTGRES_ARCHIVE", "yes"),
            ("FLASHSALE_LOCAL_POSTGRES_ROLE", "superuser replication"),
        ],
    )
}

async fn reserve_once(client: &Client, product: i64, user: i64, key: &str) -> Answer {
    let body = json!({"product_id": product, "user_id": user});
    let request = client.request(Method::POST, "/reservations").json(&body);
    Answer::to(request.header("idempotency-key", key)).await
}

/// The events that consumers have received, as a queue has them.
async fn events(database: &Database) -> Vec<String> {
    sqlx::query_scalar(
        "select json_build_object('message_id', event_id, 'event_type', event_type, 'payload', payload)::text
        from outbox_events order by id",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap()
}

async fn archive_is_complete(database: &Database) {
    let last: String = sqlx::query_scalar("select pg_walfile_name(pg_switch_wal())")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    eventually("the archived log", async || {
        let archived: Option<String> =
            sqlx::query_scalar("select last_archived_wal from pg_stat_archiver")
                .fetch_one(&database.pool)
                .await
                .unwrap();
        archived.is_some_and(|file| file >= last).then_some(())
    })
    .await;
}

async fn becomes_ready(client: &Client) {
    eventually("ready", async || {
        (client.get("/readyz").await.status == 200).then_some(())
    })
    .await;
}

fn of(lost: &[Value], event_type: &str, hold: &Value) -> Value {
    let mut found = lost.iter().filter(|event| {
        event["event_type"] == event_type && event["payload"]["reservation_id"] == hold["id"]
    });
    found.next().expect("not reported").clone()
}

#[tokio::test]
async fn after_a_recovery_to_the_middle_of_a_sale_old_clients_touch_nobody_elses_hold() {
    let server = archived();
    let database = Database::create_on(&server.url).await;
    let every_event = (
        "OUTBOX_EVENTS",
        "ReservationCreated,ReservationConfirmed,ReservationCanceled,StockAdjusted",
    );
    let mut system = System::spawn_on(database, &[every_event]).await;
    // Both copies meet the new timeline.
    let other = Peer::api(&system, &[every_event]).await;
    let product = system.create_product(500).await;
    let [kept, sold_later, canceled_later] = [
        system.reserve(product, 1).await,
        system.reserve(product, 2).await,
        system.reserve(product, 3).await,
    ];
    let known_key = reserve_once(&system, product, 4, "known").await.expect(201);
    let sold_before = system.reserve(product, 5).await;
    system.confirm(&sold_before).await;
    server.backup();
    let after_backup = system.reserve(product, 6).await;
    system
        .database
        .execute("select pg_create_restore_point('middle of the sale')")
        .await;

    // What will be lost.
    system.confirm(&sold_later).await;
    system.cancel(&canceled_later).await;
    let holds = join_all((100..160).map(|user| system.reserve(product, user))).await;
    let sold = &holds[0];
    system.confirm(sold).await;
    let lost_key = reserve_once(&system, product, 7, "lost").await.expect(201);
    let lost_product = system.create_product(3).await;
    let delta = json!({"delta": 1, "reason": "found"});
    let path = format!("/products/{product}/stock");
    system
        .admin_json(Method::POST, &path, &delta)
        .await
        .expect(200);
    let received = events(&system.database).await;
    archive_is_complete(&system.database).await;
    server.restore("middle of the sale");
    becomes_ready(&system).await;
    becomes_ready(&other).await;

    // New clients reserve while old ones confirm and cancel what they have.
    let new = (200..260).map(|user| {
        let api = if user % 2 == 0 {
            system.client()
        } else {
            (*other).clone()
        };
        async move { api.reserve(product, user).await }
    });
    let old = holds
        .iter()
        .chain([&lost_key])
        .enumerate()
        .map(async |(number, hold)| {
            let answer = match number % 2 {
                0 => system.try_confirm(hold).await,
                _ => other.try_cancel(hold).await,
            };
            answer.expect_problem(404, "reservation_not_found");
        });
    let (new, _) = tokio::join!(join_all(new), join_all(old));
    for hold in holds.iter().chain([&lost_key]) {
        system
            .try_confirm(hold)
            .await
            .expect_problem(404, "reservation_not_found");
        system
            .try_cancel(hold)
            .await
            .expect_problem(404, "reservation_not_found");
    }
    let ids: HashSet<i64> = new.iter().map(id).collect();
    assert_eq!(ids.len(), new.len());
    let (first, last) = (ids.iter().min().unwrap(), ids.iter().max().unwrap());
    assert!(*first > GAP && last - first < GAP, "advanced once: {ids:?}");
    for hold in &new {
        assert_eq!(system.look_up(hold).await["status"], "ACTIVE");
    }
    let new_product = system.create_product(1).await;
    assert!(new_product > GAP, "{new_product} {lost_product}");
    system
        .get(&format!("/products/{lost_product}"))
        .await
        .expect_problem(404, "product_not_found");

    // What was committed before is there, with its keys. A key of the lost time is unknown.
    for hold in [&kept, &sold_later, &canceled_later, &after_backup] {
        assert_eq!(system.look_up(hold).await["status"], "ACTIVE");
    }
    assert_eq!(system.look_up(&sold_before).await["status"], "CONFIRMED");
    let again = reserve_once(&system, product, 4, "known").await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(201), known_key);
    let again = reserve_once(&system, product, 7, "lost").await;
    assert_eq!(again.header("idempotency-replayed"), "");
    assert_ne!(again.expect(201)["id"], lost_key["id"]);

    let report = restored(&system, &received);
    assert!(report.status.success(), "{report:?}");
    let lost = lost(&report);
    let known = events(&system.database).await;
    let unknown = received.iter().filter(|line| !known.contains(line)).count();
    assert_eq!(lost.len(), unknown, "{}", said(&report));
    let again = of(&lost, "ReservationConfirmed", &sold_later);
    assert_eq!(again["status_now"], "ACTIVE");
    assert_eq!(again["action"], "confirm the reservation again");
    let again = of(&lost, "ReservationCanceled", &canceled_later);
    assert_eq!(
        again["action"],
        "cancel the reservation again, or let it expire"
    );
    let gone = of(&lost, "ReservationConfirmed", sold);
    assert_eq!(gone["status_now"], Value::Null);
    assert!(
        gone["action"]
            .as_str()
            .unwrap()
            .starts_with("the sale is lost"),
        "{gone}"
    );
    assert!(
        lost.iter()
            .any(|event| event["event_type"] == "StockAdjusted")
    );
    let mut redis = Redis::at(&test_server("TEST_REDIS_URL")).await;
    let counter = format!("get {}metrics:reservations:created", system.redis_prefix());
    let created: i64 = redis.ask(&counter).await;
    assert_eq!(created, 6 + 60 + 1, "as the database has it");

    system.assert_clean_audit().await;
    // A person used it in vain twice: a snapshot of the disk would need it.
    assert!(id(&system.reserve(product, 999).await) > 2 * GAP);
    let log = system.stop().await;
    let told = |words: &str| {
        log.iter()
            .filter(|line| line.to_string().contains(words))
            .count()
    };
    assert!(told("all ids were advanced") <= 1, "{log:?}");
}

/// Events whose row in the outbox was purged long ago are not lost.
#[tokio::test]
async fn events_of_changes_that_the_database_has_are_not_reported() {
    let every_event = (
        "OUTBOX_EVENTS",
        "ReservationCreated,ReservationConfirmed,ReservationCanceled,ReservationReturned,StockAdjusted",
    );
    let system = System::spawn(&[every_event]).await;
    let product = system.create_product(9).await;
    let [sold, canceled] = [
        system.reserve(product, 1).await,
        system.reserve(product, 2).await,
    ];
    system.confirm(&sold).await;
    system
        .post(&format!("/reservations/{}/return", id(&sold)))
        .await
        .expect(200);
    system.cancel(&canceled).await;
    let delta = json!({"delta": 1, "reason": "found"});
    let path = format!("/products/{product}/stock");
    system
        .admin_json(Method::POST, &path, &delta)
        .await
        .expect(200);
    let mut received = events(&system.database).await;
    assert_eq!(received.len(), 6);
    system.database.execute("delete from outbox_events").await;

    let unknown = "0b3a5f2c-7a55-4a46-9a8e-0d5c2b1f6a77";
    received.push(unknown.to_owned());
    // At least once.
    received.push(unknown.to_owned());
    let report = restored(&system, &received);
    assert!(report.status.success(), "{report:?}");
    let lost = lost(&report);
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0]["message_id"], unknown);
    assert!(
        said(&report).contains("7 read, 1 of them"),
        "{}",
        said(&report)
    );

    received.push("order 7".to_owned());
    let refused = restored(&system, &received);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("line 9"), "{}", said(&refused));
}
