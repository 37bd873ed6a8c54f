//! Whole orders: confirm, cancel and extend of several reservations, all or none.

use serde_json::{Value, json};

use crate::support::{Answer, Redis, System, assert_utc, id, test_server, timer_key};

async fn act(system: &System, verb: &str, body: Value) -> Answer {
    let path = format!("/reservations/batch/{verb}");
    system.post_json(&path, &body).await
}

/// Holds of three products by one user, as one batch.
async fn order(system: &System, user: i64) -> Vec<Value> {
    let mut items = Vec::new();
    for _ in 0..3 {
        items.push(json!({"product_id": system.create_product(5).await}));
    }
    let body = json!({"user_id": user, "items": items, "reference": "order 7"});
    let holds = system.post_json("/reservations/batch", &body).await;
    holds.expect(201).as_array().unwrap().clone()
}

/// The ids in another order than that of the products.
fn ids(order: &[Value]) -> Vec<i64> {
    order.iter().rev().map(id).collect()
}

#[tokio::test]
async fn an_order_is_confirmed_canceled_and_extended_as_one_thing() {
    let system = System::start().await;
    for (user, verb, status) in [(1, "confirm", "CONFIRMED"), (2, "cancel", "CANCELED")] {
        let order = order(&system, user).await;
        let ids = ids(&order);
        let extended = act(&system, "extend", json!({"ids": ids, "seconds": 900})).await;
        let extended = extended.expect(200);
        for (hold, id) in extended.as_array().unwrap().iter().zip(&ids) {
            assert_eq!(
                (&hold["id"], &hold["status"]),
                (&json!(id), &json!("ACTIVE"))
            );
            assert_eq!(hold["expires_at"], extended[0]["expires_at"]);
            assert!(assert_utc(&hold["expires_at"]) > assert_utc(&order[0]["expires_at"]));
        }
        let done = act(&system, verb, json!({"ids": ids})).await.expect(200);
        for (ended, id) in done.as_array().unwrap().iter().zip(&ids) {
            assert_eq!(
                (&ended["id"], &ended["status"]),
                (&json!(id), &json!(status))
            );
            assert_eq!(&system.look_up(ended).await, ended);
        }
        let again = act(&system, verb, json!({"ids": ids})).await.expect(200);
        assert_eq!(again, done);
        let series = format!("flashsale_reservations_{}_total", status.to_lowercase());
        assert_eq!(system.metric(&series).await, 3.0);
    }
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn a_refusal_names_the_first_reservation_that_cannot_be_done() {
    let system = System::start().await;
    let order = order(&system, 1).await;
    let [first, second, third] = [id(&order[0]), id(&order[1]), id(&order[2])];
    system.cancel(&order[1]).await;
    system.backdate(&order[2]).await;
    for (verb, ids, status, code, of) in [
        (
            "confirm",
            [first, second, third],
            409,
            "reservation_canceled",
            second,
        ),
        (
            "confirm",
            [third, second, first],
            409,
            "reservation_expired",
            third,
        ),
        (
            "cancel",
            [second, first, third],
            409,
            "reservation_expired",
            third,
        ),
        (
            "extend",
            [first, 999, second],
            404,
            "reservation_not_found",
            999,
        ),
    ] {
        let mut body = json!({"ids": ids});
        if verb == "extend" {
            body["seconds"] = json!(9);
        }
        let refused = act(&system, verb, body).await;
        let problem = refused.expect_problem_with(status, code, &["reservation_id"]);
        assert_eq!(problem["reservation_id"], of, "{verb} {ids:?}");
        assert_eq!(system.look_up(&order[0]).await, order[0]);
    }
    // After a late payment, the units of the expired hold are sold again, with the others.
    let body = json!({"ids": [first, third], "reacquire": true});
    let sold = act(&system, "confirm", body.clone()).await.expect(200);
    assert_eq!(sold[0]["id"], first);
    assert_eq!(sold[1]["reacquired_from"], third);
    assert_eq!(act(&system, "confirm", body).await.expect(200), sold);
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn the_ids_are_1_to_100_and_differ() {
    let system = System::start().await;
    let hold = {
        let product = system.create_product(1).await;
        system.reserve(product, 1).await
    };
    let many = |count: i64| (1..=count).collect::<Vec<_>>();
    for verb in ["confirm", "cancel", "extend"] {
        let body = |ids: Value| match verb {
            "extend" => json!({"ids": ids, "seconds": 9}),
            _ => json!({"ids": ids}),
        };
        for ids in [
            json!([]),
            json!(many(101)),
            json!([id(&hold), 7, id(&hold)]),
            json!([0]),
            json!(["1"]),
            json!(1),
            json!(null),
        ] {
            let refused = act(&system, verb, body(ids.clone())).await;
            let problem = refused.expect_problem(422, "invalid_request");
            let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
            assert!(pointer.starts_with("/ids"), "{ids}: {problem}");
        }
        let most = act(&system, verb, body(json!(many(100)))).await;
        most.expect_problem_with(404, "reservation_not_found", &["reservation_id"]);
        let missing = act(&system, verb, json!({})).await;
        missing.expect_problem(422, "invalid_request");
    }
    assert_eq!(system.look_up(&hold).await, hold);
}

#[tokio::test]
async fn timers_follow_the_order() {
    let system = System::start().await;
    let mut redis = Redis::at(&test_server("TEST_REDIS_URL")).await;
    let order = order(&system, 1).await;
    let keys: Vec<String> = order.iter().map(|hold| timer_key(&system, hold)).collect();
    let exists = format!("EXISTS {}", keys.join(" "));
    redis.answers(&exists, Some(3)).await;
    let body = json!({"ids": ids(&order)});
    act(&system, "cancel", body).await.expect(200);
    redis.answers(&exists, Some(0)).await;
}
