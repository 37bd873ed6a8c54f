//! Every alert is sent, shown in red, and removed once the cause is gone.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::task::JoinHandle;

use super::browser::Browser;
use crate::support::{
    Answer, Database, NO_RABBITMQ, NO_REDIS, Peer, Server, Service, System, Traffic, Viewer,
    alerts, eventually, find,
};

/// Waits until the stream has the alert. If there is a browser, its page must show the alert.
async fn is_told(system: &System, code: &str) {
    let mut viewer = Viewer::of(system).await;
    let view = viewer
        .until(code, |view| alerts(view).contains(&code))
        .await;
    let alert = find(&view["alerts"], "code", code).unwrap();
    if let Some(browser) = Browser::open(system).await {
        browser.shows_alert(alert).await;
        browser.ends_clean().await;
    }
}

fn time(text: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(text.as_str().unwrap(), &Rfc3339).unwrap()
}

async fn is_mended(system: &System, code: &str) {
    let mut viewer = Viewer::of(system).await;
    let mended = format!("the end of {code}");
    viewer
        .until(&mended, |view| !alerts(view).contains(&code))
        .await;
}

#[tokio::test]
async fn no_expirer_and_no_relay() {
    let system = System::start().await;
    is_told(&system, "no_expirer").await;
    is_told(&system, "no_relay").await;
    let _expirer = Peer::expirer(&system, &[]).await;
    is_mended(&system, "no_expirer").await;
}

#[tokio::test]
async fn a_copy_that_died_is_missed_and_one_that_was_stopped_is_not() {
    let system = System::start().await;
    let [_stays, mut stopped, mut killed] = [
        Peer::expirer(&system, &[]).await,
        Peer::expirer(&system, &[]).await,
        Peer::expirer(&system, &[]).await,
    ];
    let mut viewer = Viewer::of(&system).await;
    // A copy that was started after the last heartbeat of one that died counts as its replacement. So each copy must have a
    // heartbeat that is later than the start of the last one.
    viewer
        .until("three expirers, each with a heartbeat since", |view| {
            let expirers = view["processes"].as_array().unwrap().iter();
            let expirers: Vec<_> = expirers
                .filter(|process| process["role"] == "expirer")
                .collect();
            let age = |since: &Value| (time(&view["at"]) - time(since)).as_seconds_f64();
            let ages = expirers.iter().map(|process| age(&process["started_at"]));
            let youngest = ages.reduce(f64::min).unwrap_or_default();
            // `at` is a little later than the time of the read, so there is a margin.
            let latest = youngest - 0.5;
            let heard = |process: &&Value| process["heard_seconds_ago"].as_f64() < Some(latest);
            expirers.len() == 3 && expirers.iter().all(heard)
        })
        .await;
    stopped.stop().await;
    killed.child.kill();
    let view = viewer
        .until("the loss", |view| alerts(view).contains(&"process_lost"))
        .await;
    let alert = find(&view["alerts"], "code", "process_lost").unwrap();
    assert_eq!(alert["title"], "Down: 1 of 2 copies of the expirer");
    is_told(&system, "process_lost").await;
}

#[tokio::test]
async fn a_copy_that_was_started_again_is_not_missed() {
    let system = System::start().await;
    let mut killed = Peer::expirer(&system, &[]).await;
    let mut viewer = Viewer::of(&system).await;
    viewer
        .until("the expirer", |view| {
            find(&view["processes"], "role", "expirer").is_some()
        })
        .await;
    killed.child.kill();
    let _again = Peer::expirer(&system, &[]).await;
    let view = viewer
        .until("its death", |view| {
            find(&view["processes"], "alive", false).is_some()
        })
        .await;
    assert_eq!(alerts(&view), ["no_relay"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_no_outage() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    // As before `migrate`, and as when another session holds a lock.
    system.database.execute("drop table processes").await;
    is_told(&system, "cannot_read").await;
    let mut viewer = Viewer::of(&system).await;
    let view = viewer.next().await.unwrap().data;
    assert_eq!(view["servers"]["postgres"], "up");
    assert_eq!(view["rates"], json!(null));
    let mut keeper = system.database.pool.begin().await.unwrap();
    sqlx::raw_sql("lock outbox_events")
        .execute(&mut *keeper)
        .await
        .unwrap();
    let view = viewer
        .until("both", |view| {
            let alert = find(&view["alerts"], "code", "cannot_read");
            alert.is_some_and(|alert| {
                alert["title"]
                    .as_str()
                    .unwrap()
                    .ends_with("the waiting events")
            })
        })
        .await;
    assert_eq!(alerts(&view), ["cannot_read"]);
    assert_eq!(view["servers"]["postgres"], "up");
    system.reserve(product, 1).await;
    keeper.rollback().await.unwrap();
}

#[tokio::test]
async fn redis_away() {
    let system = System::with(&[NO_REDIS]).await;
    is_told(&system, "redis_down").await;
    let mut viewer = Viewer::of(&system).await;
    let view = viewer
        .until("the API's heartbeat", |view| {
            view["processes"][0]["cannot_reach"] == json!(["redis"])
        })
        .await;
    assert_eq!(view["servers"]["redis"], "down");
    assert_eq!(view["funnel"], json!(null));
}

#[tokio::test]
async fn postgresql_away() {
    let database = Database::create().await;
    let (proxy, url) = database.behind_proxy().await;
    let system = System::spawn_on(database, &[("DATABASE_URL", &url)]).await;
    let product = system.create_product(7).await;
    let mut viewer = Viewer::of(&system).await;
    viewer
        .until("the product", |view| {
            view["products"].as_array().unwrap().len() == 1
        })
        .await;
    for away in [Traffic::Refuse, Traffic::Blackhole] {
        proxy.set(away);
        is_told(&system, "postgres_down").await;
        let mut viewer = Viewer::of(&system).await;
        let view = viewer.next().await.unwrap().data;
        // A new viewer gets the last known state.
        assert_eq!(view["servers"]["postgres"], "down");
        assert_eq!(view["products"][0]["id"], product);
        proxy.set(Traffic::Pass);
        is_mended(&system, "postgres_down").await;
    }
}

#[tokio::test]
async fn rabbitmq_away() {
    let system = System::start().await;
    let _relay = Peer::start(&system, "flashsale-relay", &[NO_RABBITMQ]).await;
    is_told(&system, "rabbitmq_down").await;
}

#[tokio::test]
async fn events_that_wait_and_events_that_are_dead() {
    let system = System::start().await;
    system
        .database
        .execute(
            "insert into outbox_events (event_type, payload, created_at)
        values ('ReservationConfirmed', '{}', now() - interval '1 min')",
        )
        .await;
    is_told(&system, "events_wait").await;
    system
        .database
        .execute("update outbox_events set dead_at = now()")
        .await;
    is_told(&system, "events_dead").await;
    is_mended(&system, "events_wait").await;
}

#[tokio::test]
async fn holds_that_are_overdue() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    system.reserve(product, 1).await;
    system
        .database
        .execute("update reservations set expires_at = now() - interval '20 s'")
        .await;
    is_told(&system, "holds_overdue").await;
    let swept = system.post("/admin/reservations/sync-expired").await;
    assert_eq!(swept.expect(200), json!({"expired": 1}));
    is_mended(&system, "holds_overdue").await;
}

#[tokio::test]
async fn an_inconsistent_inventory() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    system
        .database
        .execute("update products set stock = stock - 1, held = held + 1")
        .await;
    // A viewer causes audits.
    is_told(&system, "inventory_inconsistent").await;
    let mut viewer = Viewer::of(&system).await;
    let view = viewer.next().await.unwrap().data;
    let difference = json!({"product_id": product, "counter": "held", "counted": 1, "expected": 0});
    assert!(
        view["audit"]["differences"]
            .as_array()
            .unwrap()
            .contains(&difference),
        "{view}"
    );
    system
        .database
        .execute("update products set stock = stock + 1, held = held - 1")
        .await;
    system.assert_clean_audit().await;
    is_mended(&system, "inventory_inconsistent").await;
}

#[tokio::test]
async fn requests_that_fail() {
    let system = System::with(&[("LANE_MAX_REQUESTS", "1")]).await;
    let product = system.create_product(9).await;
    let lock = system.database.lock_product(product).await;
    // One runs, one waits, and the others are refused.
    let mut answers = tokio::task::JoinSet::new();
    for user in 1..=6 {
        let client = system.client();
        answers.spawn(async move { client.try_reserve(product, user).await.status });
    }
    is_told(&system, "requests_fail").await;
    lock.rollback().await.unwrap();
    let failed = answers.join_all().await;
    assert!(failed.iter().filter(|status| **status == 503).count() >= 4);
    is_mended(&system, "requests_fail").await;
}

#[tokio::test]
async fn a_postgresql_that_is_read_only_is_named_and_not_the_processes() {
    let superuser = ("FLASHSALE_LOCAL_POSTGRES_ROLE", "superuser");
    let server = Server::start_with(Service::Postgres, &[superuser]);
    let database = Database::create_on(&server.url).await;
    let system = System::spawn_on(database, &[]).await;
    system
        .database
        .configure("default_transaction_read_only", "on")
        .await;
    is_told(&system, "postgres_read_only").await;
    let mut viewer = Viewer::of(&system).await;
    let view = viewer.next().await.unwrap().data;
    assert_eq!(alerts(&view), ["postgres_read_only"]);
    system
        .database
        .configure("default_transaction_read_only", "off")
        .await;
    is_mended(&system, "postgres_read_only").await;
}

#[tokio::test]
async fn a_prepared_transaction_that_was_forgotten_is_named() {
    let allowed = "-c fsync=off -c max_prepared_transactions=1";
    let server = Server::start_with(
        Service::Postgres,
        &[("FLASHSALE_LOCAL_POSTGRES_OPTIONS", allowed)],
    );
    let database = Database::create_on(&server.url).await;
    let system = System::spawn_on(database, &[]).await;
    let prepare = "begin; create table forgotten (); prepare transaction 'forgotten'";
    system.database.execute(prepare).await;
    let mut viewer = Viewer::of(&system).await;
    let holder = "prepared transaction forgotten";
    viewer
        .until(holder, |view| {
            view["database"]["oldest_snapshot_holder"] == holder
        })
        .await;
    let end = "rollback prepared 'forgotten'";
    system.database.execute(end).await;
    viewer
        .until("its end", |view| {
            view["database"]["oldest_snapshot_holder"] != holder
        })
        .await;
}

#[tokio::test]
async fn commits_that_wait_for_a_standby() {
    let superuser = ("FLASHSALE_LOCAL_POSTGRES_ROLE", "superuser");
    let server = Server::start_with(Service::Postgres, &[superuser]);
    let database = Database::create_on(&server.url).await;
    let mut system = System::spawn_on(database, &[]).await;
    let workers = [
        Peer::expirer(&system, &[]).await,
        Peer::start(&system, "flashsale-relay", &[NO_RABBITMQ]).await,
    ];
    let product = system.create_product(99).await;
    let hold = system.reserve(product, 1).await;
    is_ready(&system, &workers).await;
    system
        .database
        .configure("synchronous_standby_names", "nobody")
        .await;
    let (reserve, users) = first_that_waits(&system, product).await;
    is_told(&system, "commits_stalled").await;
    // Another verb waits for the product's lock, and the log does not blame somebody else.
    let cancel = format!("/reservations/{}/cancel", hold["id"]);
    let canceled = system.post(&cancel).await;
    canceled.expect_problem(503, "overloaded");
    let words = "a commit that waits for a synchronous standby keeps a product locked";
    system.child().logs(words).await;
    assert!(system.child().logged("another session").is_none());
    // No write is answered, so no process is ready: also after the caller has gone.
    reserve
        .await
        .unwrap()
        .expect_problem(503, "outcome_unknown");
    for client in std::iter::once(&*system).chain(workers.iter().map(|peer| &**peer)) {
        // A machine that is busy may first say that PostgreSQL does not answer in time.
        eventually("not ready, because commits wait", async || {
            let told = client.get("/readyz").await;
            let reason = told.json()["reason"].to_string();
            (told.status == 503 && reason.contains("commits wait for a standby")).then_some(())
        })
        .await;
    }
    let mut viewer = Viewer::of(&system).await;
    let view = viewer.next().await.unwrap().data;
    let seconds = |name: &str| view["database"][name].as_f64().unwrap();
    assert!(
        seconds("oldest_snapshot_seconds") < seconds("stalled_commit_seconds"),
        "a waiting commit is no forgotten session: {view}"
    );

    system
        .database
        .configure("synchronous_standby_names", "")
        .await;
    is_mended(&system, "commits_stalled").await;
    is_ready(&system, &workers).await;
    // The reserve was done.
    assert_eq!(system.stock(product).await, 99 - users);
}

/// Reserves for one user after the other until a commit waits for a standby: commits begin to wait a moment after the
/// setting has changed. Returns the request that waits, and the number of users.
async fn first_that_waits(system: &System, product: i64) -> (JoinHandle<Answer>, i64) {
    for user in 2.. {
        let client = system.client();
        let reserve = tokio::spawn(async move { client.try_reserve(product, user).await });
        let waits = eventually("an answer, or a commit that waits", async || {
            let waits: bool = sqlx::query_scalar(
                "select exists (select from pg_stat_activity where wait_event = 'SyncRep')",
            )
            .fetch_one(&system.database.pool)
            .await
            .unwrap();
            (waits || reserve.is_finished()).then_some(waits)
        })
        .await;
        if waits {
            return (reserve, user);
        }
        reserve.await.unwrap().expect(201);
    }
    unreachable!("the users do not end")
}

/// Waits until each of them is ready.
async fn is_ready(system: &System, workers: &[Peer]) {
    for client in std::iter::once(&**system).chain(workers.iter().map(|peer| &**peer)) {
        eventually("ready", async || {
            (client.get("/readyz").await.status == 200).then_some(())
        })
        .await;
    }
}
