//! Overload, and calls whose answers are lost: the answers say whether the work was done.

mod bulkhead;

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};
use tokio::task::JoinSet;

use crate::support::{Answer, System, eventually, id};

/// A system whose product is locked by another session, with one waiting reserve, of user 1.
struct Blocked {
    system: System,
    product: i64,
    lock: Transaction<'static, Postgres>,
    answers: JoinSet<(i64, Answer)>,
}

impl Blocked {
    async fn with(settings: &[(&str, &str)]) -> Self {
        Self::before(System::with(settings).await).await
    }

    async fn before(system: System) -> Self {
        system.database.be_patient().await;
        let product = system.create_product(100).await;
        let lock = system.database.lock_product(product).await;
        let mut blocked = Self {
            system,
            product,
            lock,
            answers: JoinSet::new(),
        };
        blocked.reserve_in_background(1);
        blocked.system.database.calls_wait_for_locks(1).await;
        blocked
    }

    fn reserve_in_background(&mut self, user: i64) {
        let (client, product) = (self.system.client(), self.product);
        self.answers
            .spawn(async move { (user, client.try_reserve(product, user).await) });
    }

    async fn next(&mut self) -> (i64, Answer) {
        self.answers.join_next().await.unwrap().unwrap()
    }

    /// Releases the lock. Returns the unanswered users with their answers.
    async fn release(self) -> (System, Vec<(i64, Answer)>) {
        self.lock.rollback().await.unwrap();
        (self.system, self.answers.join_all().await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_lane_cannot_take_is_refused_at_once_and_the_rest_is_done() {
    // The wait limit exceeds the test's patience: only a full queue can refuse.
    let settings = [
        ("LANE_MAX_REQUESTS", "3"),
        ("LANE_WAIT_MILLISECONDS", "600000"),
    ];
    let mut blocked = Blocked::with(&settings).await;
    for user in 2..=11 {
        blocked.reserve_in_background(user);
    }
    // All except the three that fit are answered while the lock is held.
    let mut refused = Vec::new();
    while refused.len() < 7 {
        let (user, answer) = blocked.next().await;
        answer.expect_problem(503, "overloaded");
        refused.push(user);
    }
    let (system, answers) = blocked.release().await;
    assert_eq!(answers.len(), 4);
    for (_, answer) in answers {
        answer.expect(201);
    }
    // The three that queued behind the first shared one call.
    let calls = system
        .metric(r#"flashsale_batch_requests_count{verb="reserve"}"#)
        .await;
    assert_eq!(calls, 2.0);
    for user in refused {
        assert!(system.list(&format!("user_id={user}")).await.is_empty());
    }
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_full_of_one_product_still_takes_the_others() {
    let settings = [
        ("RESERVE_LANES", "1"),
        ("LANE_MAX_REQUESTS", "8"),
        ("LANE_WAIT_MILLISECONDS", "600000"),
    ];
    let mut blocked = Blocked::with(&settings).await;
    let quiet = blocked.system.create_product(1).await;
    for user in 2..=20 {
        blocked.reserve_in_background(user);
    }
    // The lane is full when the last eleven are refused.
    for _ in 10..=20 {
        blocked.next().await.1.expect_problem(503, "overloaded");
    }
    let client = blocked.system.client();
    let other = tokio::spawn(async move { client.try_reserve(quiet, 1).await });
    // One more of the busy product is still refused.
    blocked.reserve_in_background(21);
    blocked.next().await.1.expect_problem(503, "overloaded");
    let (system, _) = blocked.release().await;
    other.await.unwrap().expect(201);
    system.assert_clean_audit().await;
}

/// These requests name a hold, and not its product.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_full_of_holds_of_one_product_still_takes_those_of_the_others() {
    let settings = [
        ("LANE_MAX_REQUESTS", "8"),
        ("LANE_WAIT_MILLISECONDS", "600000"),
    ];
    let system = System::with(&settings).await;
    system.database.be_patient().await;
    for verb in ["confirm", "cancel", "extend"] {
        for keyed in [false, true] {
            let ask = |hold: &Value| {
                let path = format!("/reservations/{}/{verb}", id(hold));
                let mut request = system.request(Method::POST, &path);
                if verb == "extend" {
                    request = request.json(&json!({"seconds": 400}));
                }
                if keyed {
                    request = request.header("idempotency-key", path);
                }
                Answer::to(request)
            };
            let product = system.create_product(21).await;
            let mut holds = Vec::new();
            for user in 1..=21 {
                holds.push(system.reserve(product, user).await);
            }
            let other = system.create_product(1).await;
            let other = system.reserve(other, 1).await;
            let lock = system.database.lock_product(product).await;
            let mut answers = JoinSet::new();
            answers.spawn(ask(&holds[0]));
            system.database.calls_wait_for_locks(1).await;
            for hold in &holds[1..20] {
                answers.spawn(ask(hold));
            }
            // The lane is full when eleven are refused.
            for _ in 0..11 {
                let refused = answers.join_next().await.unwrap().unwrap();
                refused.expect_problem(503, "overloaded");
            }
            let other = tokio::spawn(ask(&other));
            // One more of the busy product is still refused.
            ask(&holds[20]).await.expect_problem(503, "overloaded");
            lock.rollback().await.unwrap();
            other.await.unwrap().expect(200);
            for answer in answers.join_all().await {
                answer.expect(200);
            }
        }
    }
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_in_a_lane_is_refused_and_never_done() {
    let mut blocked = Blocked::with(&[("LANE_WAIT_MILLISECONDS", "100")]).await;
    for user in 2..=6 {
        blocked.reserve_in_background(user);
    }
    for _ in 2..=6 {
        let (user, answer) = blocked.next().await;
        assert_ne!(user, 1, "what was sent is not given up");
        answer.expect_problem(503, "overloaded");
    }
    let product = blocked.product;
    let (system, answers) = blocked.release().await;
    let [(1, answer)] = &answers[..] else {
        panic!("{answers:?}");
    };
    answer.expect(201);
    // The lane works for later requests.
    system.reserve(product, 7).await;
    let held = system.list("status=ACTIVE").await;
    let users: Vec<&serde_json::Value> = held.iter().map(|hold| &hold["user_id"]).collect();
    assert_eq!(users, [7, 1]);
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_cannot_be_had_means_that_nothing_was_done() {
    let system = System::start().await;
    let product = system.create_product(2).await;
    let hold = system.reserve(product, 1).await;
    system.database.have_little_patience().await;
    let lock = system.database.lock_product(product).await;
    for answer in [
        system.try_reserve(product, 2).await,
        system.try_confirm(&hold).await,
        system.try_cancel(&hold).await,
    ] {
        answer.expect_problem(503, "overloaded");
    }
    lock.rollback().await.unwrap();
    assert_eq!(system.look_up(&hold).await, hold);
    assert_eq!(system.stock(product).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_that_somebody_keeps_locked_holds_up_no_other() {
    let system = System::with(&[("RESERVE_LANES", "1")]).await;
    let (locked, other) = (
        system.create_product(100).await,
        system.create_product(100).await,
    );
    system.database.have_little_patience().await;
    let mut holds = Vec::new();
    for user in 1..=30 {
        holds.push(system.reserve(locked, user).await);
        holds.push(system.reserve(other, user).await);
    }
    let lock = system.database.lock_product(locked).await;
    let expect = |product: &Value, answer: Answer, status: u16| {
        if *product == locked {
            answer.expect_problem(503, "overloaded");
        } else {
            answer.expect(status);
        }
    };
    let (plain, keyed) = holds.split_at(holds.len() / 2);
    let confirms = plain.iter().map(|hold| system.try_confirm(hold));
    for (hold, answer) in plain.iter().zip(join_all(confirms).await) {
        expect(&hold["product_id"], answer, 200);
    }
    let confirms = keyed.iter().map(|hold| {
        let path = format!("/reservations/{}/confirm", id(hold));
        let request = system.request(Method::POST, &path);
        Answer::to(request.header("idempotency-key", format!("confirm-{}", id(hold))))
    });
    for (hold, answer) in keyed.iter().zip(join_all(confirms).await) {
        expect(&hold["product_id"], answer, 200);
    }
    let reserves = (101..=160).map(|user| {
        let product = if user % 2 == 0 { locked } else { other };
        let reserve = system.try_reserve(product, user);
        async move { (json!(product), reserve.await) }
    });
    for (product, answer) in join_all(reserves).await {
        expect(&product, answer, 201);
    }
    lock.rollback().await.unwrap();
    for hold in &holds {
        system.confirm(hold).await;
    }
    assert_eq!(system.product(locked).await["sold"], 30);
    system.assert_clean_audit().await;
}

/// The size of each batch whose connection is lost.
const LOST: [usize; 2] = [1, 8];

#[tokio::test(flavor = "multi_thread")]
async fn when_a_batchs_connection_dies_all_of_it_is_unknown_and_a_retry_tells() {
    let settings = [
        ("LANE_MAX_REQUESTS", "8"),
        ("LANE_WAIT_MILLISECONDS", "600000"),
    ];
    let mut blocked = Blocked::with(&settings).await;
    for user in 2..=21 {
        blocked.reserve_in_background(user);
    }
    // Once twelve of the twenty are refused, the other eight are in the queue.
    for _ in 0..12 {
        blocked.next().await.1.expect_problem(503, "overloaded");
    }
    let mut unknown = Vec::new();
    for batch in LOST {
        blocked.system.database.calls_wait_for_locks(1).await;
        blocked.system.database.terminate_waiting_calls().await;
        for _ in 0..batch {
            let (user, answer) = blocked.next().await;
            answer.expect_problem(503, "outcome_unknown");
            unknown.push(user);
        }
    }
    let product = blocked.product;
    let (system, rest) = blocked.release().await;
    assert!(rest.is_empty(), "{rest:?}");
    for user in unknown {
        // This time PostgreSQL had done nothing. The first retry creates the hold, and the second one finds it.
        let hold = system.reserve(product, user).await;
        let again = system.try_reserve(product, user).await;
        let problem = again.expect_problem(409, "already_reserved");
        assert_eq!(problem["reservation_id"], hold["id"]);
    }
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_of_each_fault_once_and_how_many_requests_it_was_for() {
    let settings = [
        ("RUST_LOG", "debug"),
        ("LANE_MAX_REQUESTS", "8"),
        ("LANE_WAIT_MILLISECONDS", "600000"),
    ];
    let mut blocked = Blocked::before(System::spawn(&settings).await).await;
    for user in 2..=21 {
        blocked.reserve_in_background(user);
    }
    let mut ids = BTreeSet::new();
    for _ in 0..12 {
        let (_, answer) = blocked.next().await;
        answer.expect_problem(503, "overloaded");
        ids.insert(answer.header("x-request-id").to_owned());
    }
    for batch in LOST {
        blocked.system.database.calls_wait_for_locks(1).await;
        blocked.system.database.terminate_waiting_calls().await;
        for _ in 0..batch {
            let (_, answer) = blocked.next().await;
            answer.expect_problem(503, "outcome_unknown");
            ids.insert(answer.header("x-request-id").to_owned());
        }
    }
    let product = blocked.product;
    let (mut system, _) = blocked.release().await;
    let client = system.client();
    // The overload ends when requests have succeeded for a while.
    eventually("the end of the overload", async || {
        client.try_reserve(product, 1).await;
        system.child().logged("no longer overloaded")
    })
    .await;

    let log = system.stop().await;
    let at = |level: &str| -> Vec<&Value> {
        let of_lanes = log.iter().filter(|entry| entry["verb"] == "reserve");
        of_lanes.filter(|entry| entry["level"] == level).collect()
    };
    let failed = at("WARN");
    let requests: Vec<&Value> = failed.iter().map(|entry| &entry["requests"]).collect();
    assert_eq!(requests, [&Value::Null, &json!(1), &json!(8)], "{failed:?}");
    assert!(
        failed[1]["cause"]
            .as_str()
            .is_some_and(|cause| !cause.is_empty())
    );
    assert_eq!(at("INFO")[0]["requests"], 12);
    // Each request is in the log with its id.
    let told = log.iter().filter(|entry| entry["status"] == 503);
    let told: Vec<&Value> = told
        .inspect(|entry| assert_eq!(entry["level"], "DEBUG"))
        .collect();
    let told_ids = told
        .iter()
        .map(|entry| entry["request_id"].as_str().unwrap());
    assert_eq!(told_ids.map(str::to_owned).collect::<BTreeSet<_>>(), ids);
    assert_eq!((told.len(), ids.len()), (21, 21));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_whose_answer_was_lost_can_be_repeated() {
    let system = System::start().await;
    let product = system.create_product(2).await;
    let hold = system.reserve(product, 1).await;
    let lock = system.database.lock_product(product).await;
    let lost = {
        let (client, hold) = (system.client(), hold.clone());
        tokio::spawn(async move { client.try_confirm(&hold).await })
    };
    system.database.calls_wait_for_locks(1).await;
    system.database.terminate_waiting_calls().await;
    lost.await.unwrap().expect_problem(503, "outcome_unknown");
    lock.rollback().await.unwrap();
    let confirmed = system.confirm(&hold).await;
    assert_eq!(system.confirm(&hold).await, confirmed);
    assert_eq!(system.product(product).await["sold"], 1);
}
