//! Requests with `Idempotency-Key`s at the same time, and what is one transaction.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::sync::mpsc;

use super::idempotency::{assert_replayed, keys, post, reserve};
use crate::support::{Answer, Peer, System, id};

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_at_once_make_one_hold() {
    let system = System::start().await;
    let product = system.create_product(10).await;
    let answers = join_all((0..64).map(|_| reserve(&system, "k", product, 1))).await;
    let first = answers
        .iter()
        .find(|answer| answer.header("idempotency-replayed").is_empty());
    let first = first.expect("one that was done");
    first.expect(201);
    let others = answers
        .iter()
        .filter(|answer| !std::ptr::eq(*answer, first));
    others.for_each(|other| assert_replayed(first, other));
    assert_eq!(system.stock(product).await, 9);
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_of_the_service_share_the_keys() {
    let system = System::spawn(&[]).await;
    let other = Peer::api(&system, &[]).await;
    let products = [
        system.create_product(50).await,
        system.create_product(50).await,
    ];
    let rush = (0..200).map(|n: i64| {
        let (user, product) = (n % 100 + 1, products[n as usize % 2]);
        let client = if n < 100 {
            system.client()
        } else {
            other.clone()
        };
        async move {
            let body = json!({"product_id": product, "user_id": user});
            let request = client.request(Method::POST, "/reservations").json(&body);
            (
                user,
                Answer::to(request.header("idempotency-key", user.to_string())).await,
            )
        }
    });
    let mut answers = join_all(rush).await;
    answers.sort_by_key(|(user, _)| *user);
    for pair in answers.chunks(2) {
        let [(_, one), (_, two)] = pair else {
            panic!("two of each")
        };
        assert_eq!((one.expect(201), &one.text), (two.expect(201), &two.text));
        assert_ne!(
            one.header("idempotency-replayed"),
            two.header("idempotency-replayed")
        );
    }
    for product in products {
        assert_eq!(system.stock(product).await, 0);
    }
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_and_without_a_rush_sells_exactly_the_stock() {
    let system = System::with(&[("BATCH_MAX_REQUESTS", "20")]).await;
    let product = system.create_product(150).await;
    let rush = (1..=300).map(|user| {
        let system = &system;
        async move {
            match user % 3 {
                0 => vec![system.try_reserve(product, user).await],
                _ => {
                    let key = user.to_string();
                    let twice = [(); 2].map(|()| reserve(system, &key, product, user));
                    join_all(twice).await
                }
            }
        }
    });
    let answers = join_all(rush).await;
    let mut sold = 0;
    for answers in &answers {
        assert!(
            answers.iter().all(|answer| answer.text == answers[0].text),
            "{answers:?}"
        );
        match answers[0].status.as_u16() {
            201 => sold += 1,
            _ => drop(answers[0].expect_problem(409, "sold_out")),
        }
    }
    assert_eq!(sold, 150);
    assert_eq!(system.stock(product).await, 0);
    system.assert_clean_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gathers_in_a_lane_shares_a_transaction() {
    const DEPTH: i64 = 100;
    let system = System::with(&[("LANE_MAX_REQUESTS", "100")]).await;
    let product = system.create_product(1000).await;
    system.database.be_patient().await;
    let lock = system.database.lock_product(product).await;
    let (overloaded, mut refused) = mpsc::unbounded_channel();
    let (first, others, _) = tokio::join!(
        reserve(&system, "first", product, 1000),
        async {
            system.database.calls_wait_for_locks(1).await;
            join_all((1..=DEPTH + 20).map(|user| {
                let (system, overloaded) = (&system, overloaded.clone());
                async move {
                    let answer = reserve(system, &user.to_string(), product, user).await;
                    if answer.status == 503 {
                        overloaded.send(()).unwrap();
                    }
                    answer
                }
            }))
            .await
        },
        async {
            // The lane is full once it refuses further requests.
            for _ in 0..20 {
                refused.recv().await;
            }
            lock.rollback().await.unwrap();
        }
    );
    first.expect(201);
    let made = others.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made as i64, DEPTH);
    let transactions: i64 =
        sqlx::query_scalar("select count(distinct xmin::text) from idempotency_keys")
            .fetch_one(&system.database.pool)
            .await
            .unwrap();
    assert_eq!(transactions, 2, "for {} requests", keys(&system).await);
}

#[tokio::test]
async fn a_key_in_use_is_said_to_be_and_nothing_is_done() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let mut holder = system.database.pool.begin().await.unwrap();
    sqlx::query("select from claim_keys_v2('{\"\"}', '{a}', array[sha256('')])")
        .execute(&mut *holder)
        .await
        .unwrap();
    let refused = reserve(&system, "a", product, 1).await;
    refused.expect_problem(409, "idempotency_key_in_use");
    assert_eq!(system.stock(product).await, 9);
    holder.rollback().await.unwrap();
    reserve(&system, "a", product, 1).await.expect(201);
}

#[tokio::test]
async fn a_late_payment_with_a_key_is_one_transaction() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    system.backdate(&hold).await;
    let path = format!("/reservations/{}/confirm", id(&hold));
    let late = r#"{"reacquire": true}"#;
    let first = post(&system, "a", &path, late).await;
    assert_eq!(first.expect(200)["reacquired_from"], hold["id"]);
    assert_replayed(&first, &post(&system, "a", &path, late).await);
    // Without the `reacquire` parameter it is refused, also with a key.
    let refused = post(&system, "b", &path, "").await;
    refused.expect_problem(409, "reservation_expired");
    assert_eq!(system.product(product).await["sold"], 1);
    system.assert_clean_audit().await;
}
