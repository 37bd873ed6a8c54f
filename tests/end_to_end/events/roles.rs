//! `deploy/postgres/roles.sql`: each process works with its role, and no role has more rights.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use super::stage::{Broker, comes_to, insert_events};
use crate::support::{
    Answer, Client, Database, Peer, Server, Service, System, eventually, id, output,
};

const SCRIPT: &str = include_str!("../../../deploy/postgres/roles.sql");

const ROLES: [&str; 4] = [
    "flashsale_owner",
    "flashsale_api",
    "flashsale_expirer",
    "flashsale_relay",
];

/// Actions that a role must not be allowed.
const REFUSED: [(&str, &[&str]); 3] = [
    (
        "flashsale_api",
        &[
            "drop table stock_adjustments",
            "alter table reservations_ended drop constraint reservations_ended_once",
            "create table mine (id bigint)",
            "create function mine() returns integer language sql return 1",
            DROP_FUNCTION,
            "truncate reservations",
            "update products set initial = 1",
            "delete from products",
            "insert into reservations (product_id, user_id, expires_at) values (1, 1, now())",
            "update reservations set status = 'ACTIVE'",
            "delete from reservations",
            "update reservations_active set status = 'CONFIRMED'",
            "update reservations_active set quantity = 2",
            "update reservations_ended set quantity = 2",
            "update reservations_ended set confirmed_at = now()",
            "delete from reservations_ended",
            "select setval('reservations_id_seq', 1)",
            "select setval('products_id_seq', 1)",
            "select from id_epoch",
            "update id_epoch set timeline = 0",
            "update stock_adjustments set delta = 1",
            "delete from stock_adjustments",
            "update outbox_events set payload = '{}'",
            "update outbox_events set event_id = gen_random_uuid()",
            "delete from outbox_events",
            "update idempotency_keys set fingerprint = ''",
            "update waitlist_entries set user_id = 1",
            "delete from waitlist_entries",
            "delete from waitlists",
            "update schema_version set version = 2",
            "select from installed_functions",
            "select from _sqlx_migrations",
        ],
    ),
    (
        "flashsale_expirer",
        &[
            "create table mine (id bigint)",
            DROP_FUNCTION,
            "insert into products (name, stock, total) values ('x', 1, 1)",
            "update products set total = 1",
            "update products set sold = 1",
            "update products set name = 'x'",
            "delete from products",
            "insert into reservations (product_id, user_id, expires_at) values (1, 1, now())",
            "update reservations set expires_at = now()",
            "delete from reservations",
            "update reservations_active set expires_at = now()",
            "insert into reservations_ended (id, product_id, user_id, status, expires_at, confirmed_at)
                values (1, 1, 1, 'CONFIRMED', now(), now())",
            "update reservations_ended set status = 'RETURNED'",
            "select reference from reservations_ended",
            "delete from reservations_ended",
            "insert into waitlist_entries (product_id, user_id, quantity, hold_seconds) values (1, 1, 1, 1)",
            "update waitlist_entries set user_id = 1",
            "delete from waitlist_entries",
            "insert into waitlists (product_id) values (1)",
            "delete from waitlists",
            "select from stock_adjustments",
            "select from outbox_events",
            "insert into outbox_events (event_type, payload, published_at) values ('x', '{}', now())",
            "update outbox_events set published_at = now()",
            "delete from outbox_events",
            "update idempotency_keys set body = ''",
            "update schema_version set version = 2",
            "select from installed_functions",
            "select from _sqlx_migrations",
        ],
    ),
    (
        "flashsale_relay",
        &[
            "create table mine (id bigint)",
            DROP_FUNCTION,
            "select from products",
            "select from reservations",
            "select from reservations_active",
            "select from reservations_ended",
            "select from stock_adjustments",
            "select from idempotency_keys",
            "select from waitlist_entries",
            "select from waitlists",
            "update products set stock = 1",
            "update reservations set status = 'CONFIRMED'",
            "delete from reservations_active",
            "insert into reservations_ended (id) values (1)",
            "select nextval('reservations_id_seq')",
            "insert into outbox_events (event_type, payload) values ('x', '{}')",
            "update outbox_events set payload = '{}'",
            "update outbox_events set event_id = gen_random_uuid()",
            "truncate outbox_events",
            "update schema_version set version = 2",
            "select from installed_functions",
            "select from _sqlx_migrations",
        ],
    ),
];

/// Any function: all of them belong to the owner.
const DROP_FUNCTION: &str = "do $$ begin
    execute (select 'drop function ' || oid::regprocedure from pg_proc where proname ~ '^reserve_v' limit 1);
end $$";

async fn apply(database: &Database) {
    // As psql sends it.
    sqlx::raw_sql(SCRIPT).execute(&database.pool).await.unwrap();
}

fn url_of(database: &Database, role: &str) -> String {
    let user = format!("{role}:of-{role}@");
    database.url.replace("flashsale:flashsale@", &user)
}

/// A private server, because roles belong to a whole server, with a database prepared as the script says.
async fn prepared() -> (Server, Database) {
    let administrator = [("FLASHSALE_LOCAL_POSTGRES_ROLE", "createrole")];
    let server = Server::start_with(Service::Postgres, &administrator);
    let database = Database::create_empty_on(&server.url).await;
    apply(&database).await;
    for role in ROLES {
        let set = format!("alter role {role} password 'of-{role}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(set))
            .execute(&database.pool)
            .await
            .unwrap();
    }
    let owner = url_of(&database, "flashsale_owner");
    let migrated = output("flashsale-api", &["migrate"], &[("DATABASE_URL", &owner)]);
    assert!(migrated.status.success(), "{migrated:?}");
    // Again, as after every release.
    apply(&database).await;
    apply(&database).await;
    (server, database)
}

/// A call with a JSON body that must succeed.
async fn does(system: &System, method: Method, path: &str, body: Value) -> Value {
    let answer = system.admin_json(method, path, &body).await;
    assert!(answer.status.is_success(), "{path}: {answer:?}");
    answer.json()
}

/// The same with a key, and a repeat.
async fn does_once(system: &System, path: &str, body: Value) -> Value {
    let post = async || {
        let request = system.request(Method::POST, path).json(&body);
        Answer::to(request.header("idempotency-key", path)).await
    };
    let (first, again) = (post().await, post().await);
    assert_eq!(again.header("idempotency-replayed"), "true", "{again:?}");
    assert_eq!(first.expect(201), again.expect(201));
    again.json()
}

#[tokio::test]
async fn a_whole_life_on_three_roles() {
    let broker = Broker::shared().await;
    let (_server, database) = prepared().await;
    let [api, expirer, relay] = ["api", "expirer", "relay"]
        .map(|process| url_of(&database, &format!("flashsale_{process}")));
    let every_event = (
        "OUTBOX_EVENTS",
        "ReservationCreated,ReservationConfirmed,ReservationCanceled,ReservationExpired,\
        ReservationReturned,StockAdjusted,WaitlistOffered",
    );
    // As after a restore.
    database.execute("update id_epoch set timeline = 0").await;
    let mut system = System::spawn_on(database, &[("DATABASE_URL", &api), every_event]).await;
    system.get("/readyz").await.expect(200);

    let product = system.create_product(2).await;
    assert!(product > 10_000_000_000, "{product}");
    let path = format!("/products/{product}");
    let (patch, post) = (Method::PATCH, Method::POST);
    let rules = json!({
        "name": "iPhone 16",
        "sku": "IPH-16",
        "max_per_user": 5,
        "hold_seconds": 300,
        "max_hold_seconds": 3600,
        "sale_starts_at": "2000-01-01T00:00:00Z",
        "sale_ends_at": "9999-01-01T00:00:00Z",
    });
    does(&system, patch, &path, rules).await;
    let delta = json!({"delta": 3, "reason": "found"});
    does(&system, post.clone(), &format!("{path}/stock"), delta).await;
    for (stock, expected) in [(6, 5), (5, 6)] {
        let count = json!({"stock": stock, "expected": expected, "reason": "count"});
        does(&system, Method::PUT, &format!("{path}/stock"), count).await;
    }

    // Without a lane, and with one.
    let other = json!({"name": "iPhone 15 case", "stock": 1, "sku": "CASE-15"});
    let other = does_once(&system, "/products", other).await;
    let hold = json!({"product_id": id(&other), "user_id": 9, "reference": "cart 9"});
    let hold = does_once(&system, "/reservations", hold).await;
    let line = format!("/products/{}/waitlist", id(&other));
    let leaves = does_once(&system, &line, json!({"user_id": 1})).await;
    let leave = format!("/waitlist/{}/leave", id(&leaves));
    does(&system, post.clone(), &leave, json!({})).await;
    does(&system, post.clone(), &line, json!({"user_id": 2})).await;
    let waits = does(&system, post.clone(), &line, json!({"user_id": 3})).await;
    system.cancel(&hold).await;

    // A key is free again if something does not exist.
    for (path, body) in [
        ("/reservations", json!({"product_id": 999, "user_id": 1})),
        ("/reservations/999/confirm", json!({})),
        (
            "/products/999/stock",
            json!({"delta": 1, "reason": "found"}),
        ),
    ] {
        for _ in 0..2 {
            let request = system.request(post.clone(), path).json(&body);
            let key = format!("unknown:{path}");
            let unknown = Answer::to(request.header("idempotency-key", key)).await;
            assert_eq!(unknown.status, 404, "{unknown:?}");
        }
    }

    // By the API alone: sold, returned, canceled, extended, and reclaimed by the next reserve.
    let sold = system.reserve(product, 1).await;
    system.confirm(&sold).await;
    let path = format!("/reservations/{}/return", id(&sold));
    does(&system, post.clone(), &path, json!({})).await;
    let canceled = system.reserve(product, 2).await;
    system.cancel(&canceled).await;
    let items = json!({"user_id": 3, "items": [{"product_id": product, "quantity": 5}]});
    let together = does(&system, post.clone(), "/reservations/batch", items).await;
    let path = format!("/reservations/{}/extend", id(&together[0]));
    does(&system, post.clone(), &path, json!({"seconds": 400})).await;
    let longer = json!({"ids": [id(&together[0])], "seconds": 500});
    does(&system, post.clone(), "/reservations/batch/extend", longer).await;
    system.backdate(&together[0]).await;
    let late = system.reserve(product, 4).await;
    system.backdate(&late).await;
    let swept = "/admin/reservations/sync-expired";
    assert_eq!(
        does(&system, post.clone(), swept, json!({})).await["expired"],
        1
    );
    let path = format!("/reservations/{}/confirm", id(&late));
    does(&system, post.clone(), &path, json!({"reacquire": true})).await;
    does(&system, post.clone(), "/admin/counters/rebuild", json!({})).await;
    assert!(!system.list("status=EXPIRED").await.is_empty());

    let settings = [
        ("DATABASE_URL", &*expirer),
        every_event,
        ("IDEMPOTENCY_HOURS", "0"),
    ];
    let expirer = Peer::expirer(&system, &settings).await;
    is_ready(&expirer).await;
    let due = system.reserve(product, 5).await;
    system.backdate(&due).await;
    eventually("the hold is swept", async || {
        let held = system.product(product).await["held"] == 0;
        held.then_some(())
    })
    .await;

    // It offers the unit of the hold that was offered before.
    let offered = system
        .list(&format!("product_id={}&status=ACTIVE", id(&other)))
        .await;
    system.backdate(&offered[0]).await;
    let waits = format!("/waitlist/{}", id(&waits));
    eventually("the next in line is offered the unit", async || {
        let entry = system.get(&waits).await.json();
        (entry["status"] == "OFFERED").then_some(())
    })
    .await;

    // It purges when it starts.
    eventually("the key is forgotten", async || {
        let keys: i64 = sqlx::query_scalar("select count(*) from idempotency_keys")
            .fetch_one(&system.database.pool)
            .await
            .unwrap();
        (keys == 0).then_some(())
    })
    .await;

    // The queue is bound to one routing key, so the other events are returned. One cannot be parsed and is a dead
    // letter.
    insert_events(&system, 1).await;
    sqlx::query("insert into outbox_events (event_type, payload) values ('ReservationLost', '{}')")
        .execute(&system.database.pool)
        .await
        .unwrap();
    let settings = [("DATABASE_URL", &*relay), ("RELAY_MAX_ATTEMPTS", "1")];
    let mut first = Peer::relay(&system, &broker.url, &settings).await;
    is_ready(&first).await;
    broker.receive(3).await;
    comes_to(&system, 3, "published_at is not null").await;
    comes_to(&system, 1, "dead_at is not null").await;
    comes_to(
        &system,
        0,
        "published_at is null and dead_at is null and last_error is null",
    )
    .await;
    // Each role may write its heartbeat.
    eventually("three heartbeats", async || {
        let there: i64 = sqlx::query_scalar("select count(distinct role) from processes")
            .fetch_one(&system.database.pool)
            .await
            .unwrap();
        (there == 3).then_some(())
    })
    .await;
    first.child.kill();
    let all = json!({"from": "2000-01-01T00:00:00Z", "to": "9999-01-01T00:00:00Z"});
    does(&system, post.clone(), "/admin/outbox/replay", all).await;
    let requeued = does(&system, post, "/admin/outbox/requeue", json!({})).await;
    assert_eq!(requeued, json!({"requeued": 1}));
    assert_eq!(
        system.get("/admin/outbox/dead").await.expect(200),
        json!([])
    );

    // A relay purges when it starts.
    let old = "insert into outbox_events (event_type, payload, published_at)
        values ('ReservationConfirmed', '{}', now() - interval '1 day')";
    system.database.execute(old).await;
    let settings = [&settings[..], &[("OUTBOX_RETENTION_HOURS", "0")]].concat();
    let _second = Peer::relay(&system, &broker.url, &settings).await;
    comes_to(&system, 0, "published_at < now() - interval '1 hour'").await;
    system.assert_clean_audit().await;
    // The role that drops the database may not end sessions of another role.
    system.child().kill();
}

async fn is_ready(client: &Client) {
    // On a busy machine, PostgreSQL may not answer in time.
    eventually("postgres up", async || {
        let ready = client.get("/readyz").await.json();
        (ready["dependencies"]["postgres"] == "up").then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_role_can_do_more() {
    let (_server, database) = prepared().await;
    for (role, statements) in REFUSED {
        let url = url_of(&database, role);
        let mut connection = PgConnection::connect(&url).await.unwrap();
        for &statement in statements {
            let refused = sqlx::raw_sql(statement).execute(&mut connection).await;
            let refused = refused.expect_err(statement);
            let code = refused.as_database_error().and_then(|error| error.code());
            assert_eq!(
                code.as_deref(),
                Some("42501"),
                "{role}: {statement}: {refused}"
            );
        }
    }
}

/// Behind PgBouncer, the sessions have only the settings of the roles.
#[tokio::test]
async fn the_roles_have_their_settings_in_each_database() {
    let (server, _first) = prepared().await;
    let second = Database::create_empty_on(&server.url).await;
    apply(&second).await;
    let safe: i64 = sqlx::query_scalar(
        "select count(*) from pg_db_role_setting s, unnest(s.setconfig) as c (entry)
        where s.setdatabase = (select d.oid from pg_database d where d.datname = current_database())
            and c.entry in ('synchronous_commit=on', 'default_transaction_isolation=read committed')",
    )
    .fetch_one(&second.pool)
    .await
    .unwrap();
    assert_eq!(safe, 2 * ROLES.len() as i64);
}
