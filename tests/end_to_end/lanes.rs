//! Batches of several requests, as clients see them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, System, Wire, eventually, id};

/// Users `1..=users`, each with `times` requests at the same moment. Returns the answers by user.
async fn rush(
    system: &System,
    product: i64,
    users: i64,
    times: usize,
) -> BTreeMap<i64, Vec<Value>> {
    let requests = (0..times)
        .flat_map(|_| 1..=users)
        .map(|user| async move { (user, system.try_reserve(product, user).await.json()) });
    let mut answers: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
    for (user, answer) in join_all(requests).await {
        answers.entry(user).or_default().push(answer);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_sells_every_unit_once_and_refuses_the_rest_rightly() {
    const STOCK: usize = 150;
    let system = System::start().await;
    let product = system.create_product(150).await;
    let answers = rush(&system, product, 200, 3).await;

    let mut winners = 0;
    for (user, answers) in &answers {
        let made: Vec<&Value> = answers
            .iter()
            .filter(|answer| answer["status"] == "ACTIVE")
            .collect();
        assert!(made.len() <= 1, "user {user} holds two: {answers:?}");
        winners += made.len();
        for refusal in answers.iter().filter(|answer| answer["status"] != "ACTIVE") {
            match made.first() {
                // A user with a hold gets its id, and no other answer.
                Some(hold) => {
                    assert_eq!(hold["user_id"], *user);
                    assert_eq!(refusal["code"], "already_reserved", "{answers:?}");
                    assert_eq!(refusal["reservation_id"], hold["id"], "{answers:?}");
                }
                None => assert_eq!(refusal["code"], "sold_out", "{answers:?}"),
            }
        }
    }
    assert_eq!(winners, STOCK);
    let counters = system.product(product).await;
    assert_eq!(
        (&counters["stock"], &counters["held"]),
        (&json!(0), &json!(150))
    );
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_gets_its_own_answer() {
    let system = System::with(&[("RESERVE_LANES", "2"), ("BATCH_MAX_REQUESTS", "7")]).await;
    let mut products = Vec::new();
    for stock in [0, 40, 1000, 5] {
        products.push((system.create_product(stock).await, stock));
    }
    products.push((999_999, -1));
    let requests = products
        .iter()
        .flat_map(|product| (1..=60).map(move |user| (product, user)));
    let system = &system;
    let answers = join_all(requests.map(|((product, stock), user)| async move {
        (
            *product,
            *stock,
            user,
            system.try_reserve(*product, user).await,
        )
    }))
    .await;
    let mut made: BTreeMap<i64, i32> = BTreeMap::new();
    for (product, stock, user, answer) in &answers {
        if answer.status == 201 {
            let hold = answer.json();
            assert_eq!(
                (&hold["product_id"], &hold["user_id"]),
                (&json!(product), &json!(user))
            );
            *made.entry(*product).or_default() += 1;
        } else if *stock < 0 {
            answer.expect_problem(404, "product_not_found");
        } else {
            answer.expect_problem(409, "sold_out");
        }
    }
    for (product, stock) in products {
        assert_eq!(made.get(&product).copied().unwrap_or(0), stock.clamp(0, 60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_to_confirm_and_cancel_the_same_holds_ends_each_once() {
    let system = System::start().await;
    let product = system.create_product(100).await;
    let mut holds = Vec::new();
    for (_, answers) in rush(&system, product, 60, 1).await {
        holds.extend(answers);
    }
    let ends = holds
        .iter()
        .flat_map(|hold| [(hold, "confirm"), (hold, "cancel"), (hold, "confirm")]);
    let answers = join_all(ends.map(|(hold, verb)| {
        let path = format!("/reservations/{}/{verb}", id(hold));
        let system = &system;
        async move { (id(hold), system.post(&path).await.json()) }
    }))
    .await;
    let mut confirmed = 0;
    for hold in &holds {
        let end = system.look_up(hold).await;
        confirmed += i64::from(end["status"] == "CONFIRMED");
        for (_, answer) in answers.iter().filter(|(of, _)| *of == id(hold)) {
            let refusal = if end["status"] == "CONFIRMED" {
                "reservation_confirmed"
            } else {
                "reservation_canceled"
            };
            assert!(
                *answer == end || answer["code"] == refusal,
                "{end}: {answer}"
            );
        }
    }
    let counters = system.product(product).await;
    assert_eq!(counters["sold"], confirmed);
    assert_eq!(counters["stock"], 100 - confirmed);
    let events: i64 = sqlx::query_scalar("select count(*) from outbox_events")
        .fetch_one(&system.database.pool)
        .await
        .unwrap();
    assert_eq!(events, confirmed);
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_its_hold_made() {
    let system = System::start().await;
    let product = system.create_product(2).await;
    let lock = system.database.lock_product(product).await;
    let mut wire = Wire::to(&system).await;
    let body = json!({"product_id": product, "user_id": 1}).to_string();
    wire.send_post("/reservations", &body).await;
    system.database.calls_wait_for_locks(1).await;
    drop(wire);
    // This later request is answered, so the API has received the earlier one.
    system.get("/livez").await.expect(200);
    lock.rollback().await.unwrap();
    let hold = eventually("the hold", async || system.list("user_id=1").await.pop()).await;
    assert_eq!(hold["status"], "ACTIVE");
    // A retry finds the hold.
    let problem = system
        .try_reserve(product, 1)
        .await
        .expect_problem(409, "already_reserved");
    assert_eq!(problem["reservation_id"], hold["id"]);
    system.reserve(product, 2).await;
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hang_up_at_any_moment_leave_everything_consistent() {
    const USERS: i64 = 300;
    let system = System::start().await;
    let product = system.create_product(1000).await;
    join_all((1..=USERS).map(|user| {
        let system = &system;
        async move {
            let mut wire = Wire::to(system).await;
            let body = json!({"product_id": product, "user_id": user}).to_string();
            wire.send_post("/reservations", &body).await;
            // One third waits for the answer. The others disconnect sooner or later.
            match user % 3 {
                0 => assert!(wire.receive().await.starts_with("HTTP/1.1 201")),
                1 => tokio::task::yield_now().await,
                _ => {}
            }
        }
    }))
    .await;
    // A retry creates the hold or finds it, whatever the outcome of the first request was.
    for (user, answers) in rush(&system, product, USERS, 1).await {
        let answer = &answers[0];
        assert!(
            answer["status"] == "ACTIVE" || answer["code"] == "already_reserved",
            "{answer}"
        );
        if user % 3 == 0 {
            assert_eq!(
                answer["code"], "already_reserved",
                "a hold that was answered is gone"
            );
        }
    }
    let counters = system.product(product).await;
    assert_eq!(counters["held"], USERS);
    assert_eq!(system.list("limit=100&offset=200").await.len(), 100);
    assert!(system.list("offset=300").await.is_empty());
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_do_not_wait_for_writes() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let hold = system.reserve(product, 1).await;
    let lock = system.database.lock_product(product).await;
    let stuck = {
        let (client, hold) = (system.client(), hold.clone());
        tokio::spawn(async move {
            tokio::join!(client.reserve(product, 2), client.confirm(&hold));
        })
    };
    system.database.calls_wait_for_locks(2).await;
    assert_eq!(system.look_up(&hold).await["status"], "ACTIVE");
    assert_eq!(system.stock(product).await, 8);
    assert_eq!(system.list("").await.len(), 1);
    system.get("/products").await.expect(200);
    system.get("/readyz").await.expect(200);
    assert!(!stuck.is_finished(), "nothing was locked");
    lock.rollback().await.unwrap();
    stuck.await.unwrap();
}

/// Reads that arrive while a statement runs share the next one, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn many_reads_of_the_same_cost_two_statements() {
    const WAITING: usize = 100;
    let system = System::with(&[
        ("LANE_MAX_REQUESTS", &WAITING.to_string()),
        ("LANE_WAIT_MILLISECONDS", "600000"),
    ])
    .await;
    let product = system.create_product(9).await;
    let hold = id(&system.reserve(product, 1).await);
    for (verb, path, table) in [
        ("get_product", format!("/products/{product}"), "products"),
        ("list_products", "/products".to_owned(), "products"),
        (
            "get_reservation",
            format!("/reservations/{hold}"),
            "reservations",
        ),
    ] {
        let statements = format!(r#"flashsale_batch_requests_count{{verb="{verb}"}}"#);
        system.get(&path).await.expect(200);
        let before = system.metric(&statements).await;
        let lock = system.database.lock_table(table).await;
        let mut answers = JoinSet::new();
        let mut read = || {
            let (client, path) = (system.client(), path.clone());
            answers.spawn(async move { client.get(&path).await });
        };
        read();
        system.database.calls_wait_for_locks(1).await;
        // One does not fit any more, so all others wait.
        (0..=WAITING).for_each(|_| read());
        let refused = answers.join_next().await.unwrap().unwrap();
        refused.expect_problem(503, "overloaded");
        lock.rollback().await.unwrap();
        let answers = answers.join_all().await;
        assert_eq!(answers.len(), 1 + WAITING);
        for answer in answers {
            answer.expect(200);
        }
        assert_eq!(system.metric(&statements).await - before, 2.0, "{verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_to_one_product_do_not_wait_for_another() {
    let system = System::start().await;
    let locked = system.create_product(9).await;
    let free = system.create_product(9).await;
    let lock = system.database.lock_product(locked).await;
    let stuck = {
        let client = system.client();
        tokio::spawn(async move { client.reserve(locked, 1).await })
    };
    system.database.calls_wait_for_locks(1).await;
    system.reserve(free, 1).await;
    assert!(!stuck.is_finished(), "nothing was locked");
    lock.rollback().await.unwrap();
    stuck.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_never_older_than_its_request() {
    let system = System::start().await;
    let product = system.create_product(1000).await;
    // Other clients read all the time, so that every read has a running call to share.
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let client = system.client();
            tokio::spawn(async move {
                loop {
                    tokio::join!(
                        client.get("/products"),
                        client.product(product),
                        client.get("/reservations/1")
                    );
                }
            })
        })
        .collect();
    for user in 1..=100 {
        let hold = system.reserve(product, user).await;
        assert_eq!(system.look_up(&hold).await, hold);
        assert_eq!(system.product(product).await["held"], user);
        let listed = system.get("/products").await.expect(200);
        assert_eq!(listed[0]["held"], user);
        assert_eq!(system.list("limit=1").await, [hold]);
    }
    for reader in readers {
        assert!(!reader.is_finished(), "a reader failed");
        reader.abort();
    }
}

/// The lane gathers until as many wait as in the last batch and behind it. So the request of a client that has just got its answer
/// goes with those that have waited since.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_wait_for_a_lock_a_lane_gathers_with_and_without_keys() {
    const CALLS: &str = r#"flashsale_batch_requests_count{verb="reserve"}"#;
    let system = System::start().await;
    let product = system.create_product(9_999).await;
    for keyed in [false, true] {
        let reserve = |user: i64| {
            let body = json!({ "product_id": product, "user_id": user });
            let request = system.request(Method::POST, "/reservations").json(&body);
            let request = match keyed {
                true => request.header("Idempotency-Key", user.to_string()),
                false => request,
            };
            tokio::spawn(async move { Answer::to(request).await.expect(201) })
        };
        let mut users = 1000 * i64::from(keyed)..;
        let mut gathered = async || {
            let before = system.metric(CALLS).await;
            let mut lock = system.database.lock_product(product).await;
            let [first, second, third, last] = [(); 4].map(|()| users.next().unwrap() + 1);
            let first = reserve(first);
            system.database.calls_wait_for_locks(1).await;
            let others = [reserve(second), reserve(third)];
            // The lane gathers for as long as it has waited.
            let wait = sqlx::query("select pg_sleep(0.05)");
            wait.execute(&mut *lock).await.unwrap();
            lock.rollback().await.unwrap();
            first.await.unwrap();
            reserve(last).await.unwrap();
            for other in others {
                other.await.unwrap();
            }
            // Otherwise the others would be sent before the first is answered, and the last one would be a third call.
            (system.metric(CALLS).await - before == 2.0).then_some(())
        };
        // On a busy machine, the last request may come too late.
        eventually("a lane that gathers", &mut gathered).await;
    }
}

/// A sale begins with a rush. Its first batch must not wait for a new session.
#[tokio::test(flavor = "multi_thread")]
async fn reserve_lanes_have_their_sessions_before_the_first_request() {
    const LANES: usize = 3;
    const PRODUCTS: i64 = 20;
    let system = System::with(&[("RESERVE_LANES", "3")]).await;
    let sessions = async |which: &str| -> BTreeSet<i32> {
        let sessions = format!(
            "select pid from pg_stat_activity
            where datname = current_database() and application_name = 'flashsale-api' and {which}"
        );
        let pids = sqlx::query_scalar(sqlx::AssertSqlSafe(sessions));
        let pids: Vec<i32> = pids.fetch_all(&system.database.pool).await.unwrap();
        pids.into_iter().collect()
    };
    let before = eventually(
        "a session for each lane with and without keys",
        async || {
            let rehearsed = sessions("query like '-- reserve: rehearsal%'").await;
            (rehearsed.len() == 2 * LANES).then_some(rehearsed)
        },
    )
    .await;
    for _ in 0..PRODUCTS {
        let product = system.create_product(1).await;
        system.reserve(product, 1).await;
    }
    let used =
        sessions("query like '-- reserve%' and query not like '-- reserve: rehearsal%'").await;
    assert_eq!(used.len(), LANES, "each lane has had one of the products");
    assert!(used.is_subset(&before), "{used:?} of {before:?}");
}
